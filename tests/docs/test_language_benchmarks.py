"""What the benchmarks of language models hold theirs against, and how they count."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import masked, parts, sets, turns
from benchmarks.equality import NEAR, gap, noise, prompts, told
from benchmarks.parts import Part, Work
from benchmarks.plain import Model, Setting, reader, writer
from benchmarks.projection import text as of_projection
from benchmarks.turns import Laps, curves
from nlpkit.data.plan import mix
from nlpkit.engine.choose import drawn
from nlpkit.engine.settings import Settings


@pytest.fixture(autouse=True)
def threads():
    """A benchmark takes all cores for itself; the tests after it do not."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


SMALL = Setting(vocabulary=11, steps=8, layers=2, hidden=16, heads=2, context=6, warmup=2)


def test_what_has_been_measured_is_not_measured_again(tmp_path, capsys):
    asked = []

    def measure(work: Work) -> None:
        asked.append(work.kept("one", lambda: {"value": len(asked)})["value"])

    def text(work: Work) -> str:
        return "".join(f"of {each['machine']}" for each in work.found("o*").values())

    given = {"some": Part(measure), "others": Part(lambda work: 1 / 0, text)}
    for _ in range(2):
        asked.append(None)
        parts.main("x", "X", given, ["--smoke", "--work", str(tmp_path), "--only", "some"])
    assert asked == [None, 1, None, 1]
    assert f"of {parts.machine()}" in capsys.readouterr().out


def test_a_section_is_written_of_what_there_is(tmp_path, monkeypatch):
    page = []
    monkeypatch.setattr(parts, "put", lambda *given: page.append(given))
    (tmp_path / "one.json").write_text("{}")
    given = {name: Part(lambda work: 1 / 0, lambda work: "\nhere\n") for name in ("a", "b")}
    parts.main("x", "X", given, ["--work", str(tmp_path), "--only", "page"])
    assert page == [("X", "here\n\nhere")]


def test_the_first_step_of_a_piece_counts_as_long_as_the_others(monkeypatch):
    times, laps = iter([1.0, 2.0, 3.0, 103.0, 105.0]), Laps()
    monkeypatch.setattr(turns.time, "perf_counter", lambda: next(times))
    found = []
    for steps in (3, 2):
        for _ in range(steps):
            laps.step()
        found.append(laps.piece())
    assert found == [3.0, 4.0]


def test_a_line_has_the_seconds_so_far():
    arms = {
        name: [{"seconds": each, "nats": 2.0} for each in (1.0, scale)]
        for name, scale in {"nlpkit": 2.0, "other": 3.0}.items()
    }
    assert curves([{"steps": 2000, "arms": arms}]) == [
        ["1,000 of 2,000", "1.0", "2.000", "1.0", "2.000"],
        ["2,000 of 2,000", "3.0", "2.000", "4.0", "2.000"],
    ]


def test_the_rate_rises_and_falls_to_its_least():
    setting = Setting(vocabulary=65, steps=2000)
    rates = [setting.rate_at(step) for step in (0, 99, 100, 1050, 2000)]
    assert rates == pytest.approx([1e-5, 1e-3, 1e-3, 5.5e-4, 1e-4])


def test_the_plain_model_has_the_size_of_nanogpts_and_sees_nothing_ahead():
    weights = sum(each.numel() for each in Model(Setting(vocabulary=65, steps=1)).parameters())
    assert weights == 65 * 128 + 64 * 128 + 4 * (12 * 128**2 + 2 * 128) + 128
    model, ids = Model(SMALL), torch.arange(6)[None]
    later = ids.clone()
    later[0, 4:] = 0
    assert torch.equal(model(ids)[:, :4], model(later)[:, :4])
    assert not torch.equal(model(ids)[:, 4:], model(later)[:, 4:])


def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says nothing of any token, and learns nothing."""
    logits = Model.logits
    monkeypatch.setattr(Model, "logits", lambda self, hidden: 0.0 * logits(self, hidden))


@pytest.mark.parametrize("count", [5, 6, 12, 13])
def test_each_held_out_character_is_told_once(count, monkeypatch):
    still(monkeypatch)
    ids = torch.arange(60) % 11
    first, second = writer(SMALL, ids, ids[:count], pieces=2)
    assert first["nats"] == second["nats"] == pytest.approx(math.log(11))


def test_a_plain_writer_learns(monkeypatch):
    ids = torch.arange(60) % 11
    first, *_, last = writer(SMALL, ids, ids[:20], pieces=4)
    assert last["nats"] < first["nats"]


def test_a_plain_reader_hides_no_special_token_and_puts_none_in(monkeypatch):
    still(monkeypatch)
    seen, rows = [], torch.tensor([1, 4, 5, 6, 7, 2] * 8)
    forward = Model.forward

    def watched(self: Any, ids: Any, mask: Any = None) -> Any:
        seen.append(ids)
        return forward(self, ids, mask)

    monkeypatch.setattr(Model, "forward", watched)
    batch = {
        "input_ids": torch.tensor([[1, 3, 5, 2, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
        "masked": torch.tensor([[1, 0]]),
        "ids": torch.tensor([[4, -100]]),
    }
    (last,) = reader(SMALL, rows, [batch], pieces=1, mask=3, special=(0, 1, 2, 3))
    assert last["nats"] == pytest.approx(math.log(11))
    changed = torch.cat(seen[:-1]) != rows[:6]
    assert not changed[:, [0, -1]].any()
    assert 0.05 < changed.float().mean() < 0.15  # of 4 in 6, 0.15 × 0.9
    put_in = torch.cat(seen[:-1])[changed]
    assert (put_in == 3).any()
    assert not torch.isin(put_in, torch.tensor([0, 1, 2])).any()


def test_noise_is_what_a_token_is_drawn_with():
    prompt, logits = (5, 7, 9), np.random.default_rng(0).normal(size=40).astype(np.float32)
    added = noise(prompt)
    for place in range(20):
        before = tuple(range(place))
        chosen = drawn(logits, Settings(method="sample"), mix(Settings.seed, *prompt, 0), place)
        assert chosen == max(range(40), key=lambda id: logits[id] + added((*before, id)))


def test_a_tie_is_where_two_ways_part_first():
    one = [{(1,)}, {(1, 2)}, {(1, 2, 3)}]
    other = [{(1,)}, {(1, 4)}, {(1, 4, 9)}]
    worth = {(1, 2): -1.5, (1, 4): -1.5001, (1, 2, 3): -9.0, (1, 4, 9): -2.0}
    assert gap(one, other, worth.__getitem__) == pytest.approx(1e-4)
    assert gap(one, one[:1], worth.__getitem__) is None
    worth = {(2,): -3.0, (3,): -3.00001, (4,): -5.0}
    assert gap([{(1,), (2,)}], [{(1,), (3,)}], worth.__getitem__) == pytest.approx(1e-5)
    assert gap([{(4,), (2,)}], [{(1,), (3,)}], {**worth, (1,): 0}.__getitem__) < 1e-4
    assert told(NEAR / 2).startswith("a tie")
    assert told(2 * NEAR).startswith("**no tie**")


def test_prompts_are_of_many_lengths_and_never_the_same():
    found = prompts("".join(map(chr, range(2000))), 100)
    assert len(set(found)) == 100
    assert {len(each) for each in found} >= {8, 20, 32}


def test_a_few_rows_of_each_label_are_drawn_by_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "FOLDER", tmp_path)
    monkeypatch.setattr(masked, "BANKING", sets.Rows("few", "category", 128, 1))
    (tmp_path / "few").mkdir()
    lines = [f"text {number},label {number % 3}" for number in range(60)]
    (tmp_path / "few" / "train.csv").write_text("\n".join(["text,category", *lines]))
    work = Work(tmp_path)
    first, second = (masked.drawn(work, seed).read_text().splitlines() for seed in (1, 2))
    assert first[0] == "text,category"
    assert set(first[1:]) <= set(lines)
    assert set(Counter(line.split(",")[1] for line in first[1:]).values()) == {10}
    assert first != second


def test_where_there_is_no_room_for_the_plain_way_its_cells_are_empty(tmp_path):
    run = {"seconds": 2.0, "bytes": 64e6}
    plain = {"seconds": 1.0, "bytes": 900e6}
    for places, ways in ((2048, {"parts": [run], "plain": [plain]}), (8192, {"parts": [run]})):
        found = {"places": places, "ways": ways, "machine": "one"}
        (tmp_path / f"projection-{places:06}.json").write_text(json.dumps(found))
    text = of_projection(Work(tmp_path))
    assert "| 2,048 | 412 | 64 | 2.00 | 900 | 1.00 | 2.00 |" in text
    assert "| 8,192 | 1,647 | 64 | 2.00 |  |  |  |" in text
