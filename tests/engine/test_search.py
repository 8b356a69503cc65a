"""A beam search finds what trying everything finds, and what transformers finds."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from nlpkit.engine.generate import generate
from nlpkit.engine.settings import Settings
from tests.engine.toys import Gpt2, Table

END = 0
PROMPTS = [np.array(each) for each in ([1, 2], [3], [2, 3, 1, 2])]


def searched(engine: Any, prompts: list[np.ndarray], *, end: Any = (END,), **values: Any) -> Any:
    return generate(engine, prompts, Settings(method="beam", **values), end=end)


def log_probability(table: Table, prompt: np.ndarray, ids: tuple[int, ...]) -> float:
    total = 0.0
    for at, id in enumerate(ids):
        logits = table.logits([*prompt.tolist(), *ids[:at]]).astype(np.float64)
        total += logits[id] - np.log(np.exp(logits).sum())
    return total


def texts(vocabulary: int, most: int) -> list[tuple[int, ...]]:
    """All texts that end, and all that are as long as can be."""
    others = [id for id in range(vocabulary) if id != END]
    return [
        (*before, last)
        for length in range(most)
        for before in product(others, repeat=length)
        for last in (range(vocabulary) if length == most - 1 else [END])
    ]


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_with_beams_enough_it_finds_the_best_of_all_texts(seed: int, penalty: float) -> None:
    table = Table(4, seed, scale=0.7)
    found = searched(table, PROMPTS, beams=108, length_penalty=penalty, max_tokens=4)
    for prompt, written in zip(PROMPTS, found, strict=True):
        worth = {
            ids: log_probability(table, prompt, ids) / ((5 + len(ids)) / 6) ** penalty
            for ids in texts(4, 4)
        }
        best = max(worth, key=worth.__getitem__)
        assert written.ids == [id for id in best if id != END]
        assert written.complete is (best[-1] == END)
        assert written.score == pytest.approx(
            log_probability(table, prompt, best) / len(best), abs=1e-5
        )


def by_definition(
    table: Table, prompt: np.ndarray, end: tuple[int, ...], *, beams: int, penalty: float, most: int
) -> list[int]:
    """All candidates of each step, sorted; the search goes on to the last step."""
    going: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    ended: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, most + 1):
        found = [
            (-(total + log_probability(table, np.array([*prompt, *ids]), (id,))), place, id)
            for place, (ids, total) in enumerate(going)
            for id in range(len(table.one))
        ]
        # No text ends more than once for each end: there are always `beams` that go on.
        chosen = [
            ((*going[place][0], id), -fallen)
            for fallen, place, id in sorted(found)[: (1 + len(end)) * beams]
        ]
        over = [each[0][-1] in end or length == most for each in chosen]
        ended += [
            (total / ((5 + length) / 6) ** penalty, ids)
            for (ids, total), done in list(zip(chosen, over, strict=True))[:beams]
            if done
        ]
        going = [each for each, done in zip(chosen, over, strict=True) if not done][:beams]
    return [id for id in max(ended)[1] if id not in end]


@pytest.mark.parametrize("end", [(0,), (0, 3)])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("beams", [2, 4])
def test_few_beams_find_what_the_definition_finds(
    beams: int, penalty: float, end: tuple[int, ...]
) -> None:
    complete = set()
    for seed in range(6):
        table = Table(8, seed, scale=1.2)
        table.place[2:4, end] += 3  # early ends are likely
        found = searched(table, PROMPTS, end=end, beams=beams, length_penalty=penalty, max_tokens=7)
        expected = [
            by_definition(table, each, end, beams=beams, penalty=penalty, most=7)
            for each in PROMPTS
        ]
        assert [written.ids for written in found] == expected
        complete |= {written.complete for written in found}
    assert True in complete


def test_of_equal_sums_the_lower_beam_wins_and_then_the_lower_id() -> None:
    table = Table(6)
    table.one, table.two, table.place = (
        np.zeros_like(each)
        for each in (
            table.one,
            table.two,
            table.place,
        )
    )
    (written,) = searched(table, PROMPTS[:1], end=(), beams=2, max_tokens=3)
    assert written.ids == [0, 0, 0]


def test_it_ends_as_soon_as_no_open_text_can_win() -> None:
    table = Table(6, scale=0.0)
    table.place[:] = [9.0, 0, 0, 0, 0, 0]  # the end is nearly sure
    searched(table, PROMPTS[:1], beams=3, max_tokens=50)
    assert table.runs == [1]


@pytest.mark.parametrize("graph", ["model", "again"])
@pytest.mark.parametrize("beams", [2, 4])
def test_without_a_penalty_it_finds_what_transformers_finds(beams: int, graph: str) -> None:
    network = Gpt2()
    random = np.random.default_rng(5)
    prompts = [random.integers(1, 40, size) for size in (1, 3, 7, 7, 12, 2)]
    end = [0, 11]
    settings = Settings(method="beam", beams=beams, length_penalty=0.0, max_tokens=12)
    found = generate(network.engine(), prompts, settings, end=end, graph=graph)
    assert {written.complete for written in found} == {True, False}
    assert [written.ids for written in found] == [
        theirs(network, prompt, end, num_beams=beams) for prompt in prompts
    ]


def theirs(network: Gpt2, prompt: np.ndarray, end: list[int], **values: Any) -> list[int]:
    """What transformers writes, without its end."""
    ids = torch.from_numpy(prompt)[None]
    options = {
        "max_new_tokens": 12,
        "do_sample": False,
        "length_penalty": 0.0,
        "early_stopping": "never",
        "eos_token_id": end,
        "pad_token_id": 39,
        **values,
    }
    whole = network.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    written = whole[0, len(prompt) :].tolist()
    return written[: next((at for at, id in enumerate(written) if id in end), 12)]


def test_greedy_is_what_transformers_writes() -> None:
    network = Gpt2()
    prompts = [np.array(each) for each in ([1], [5, 6, 7], [9, 8, 7, 6, 5, 4])]
    settings = Settings(max_tokens=12)
    found = generate(network.engine(), prompts, settings, end=[11])
    expected = [
        theirs(network, each, [11], num_beams=1, length_penalty=None, early_stopping=None)
        for each in prompts
    ]
    assert [written.ids for written in found] == expected
