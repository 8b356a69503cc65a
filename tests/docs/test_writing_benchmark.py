"""The parts of `make bench-writing` in miniature: both sides train in turn, and all ways write."""

from __future__ import annotations

import pytest

from benchmarks import equality, writing
from benchmarks.parts import Work

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("writing")
    (folder / "input.txt").write_bytes(b"To be, or not to be.\n\nThat is the question:\n" * 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        patch.setattr(writing, "TEXT", folder / "input.txt")
        patch.setattr(equality, "METHODS", {"beams: 4": equality.METHODS["beams: 4"]})
        made = Work(folder / "work", smoke=True)
        writing.duels(made)
        writing.best(made, 3)
        equality.measure(made, writing.written)
    return made


def test_all_arms_come_to_their_end_in_turn(work):
    (found,) = work.found("duel-*").values()
    assert set(found["arms"]) == {"nlpkit", *writing.ARMS}
    for pieces in found["arms"].values():
        assert len(pieces) == writing.PIECES
        assert pieces[-1]["nats"] < pieces[0]["nats"]
        assert all(each["seconds"] > 0 for each in pieces)
    assert f"| 16 of {found['steps']} |" in writing.duel_text(work)


def test_the_best_of_what_was_tried_is_shown_and_goes_on(work):
    (found,) = writing.winners(work)
    assert found["parameters"] < 1_000_000
    assert writing.written(work).path.name == found["run"]
    assert writing.PROMPT in writing.best_text(work)


def test_each_way_is_held_against_torch_alone_with_a_cache(work):
    (found,) = work.found("equality-*").values()
    assert len(found["ways"]) == 2 * 2 * 3 - 1
    for ones in found["ways"].values():
        assert all(one["gap"] <= equality.NEAR for one in ones)
    assert "| ONNX, no cache, 64 |" in equality.text(work)


def test_another_text_is_seen_as_no_tie(work, monkeypatch):
    class Mirrored(equality.Forgetful):
        def run(self, inputs, graph="model"):
            found = super().run(inputs, graph)
            return {"logits": found["logits"][..., ::-1]}

    monkeypatch.setattr(equality, "Forgetful", Mirrored)
    found = equality.ways(work, "greedy", writing.written)["ways"]
    assert not found["ONNX, cache, 1"] or found["ONNX, cache, 1"][0]["gap"] <= equality.NEAR
    wrong = found["torch, no cache, 1"]
    assert wrong
    assert all(one["gap"] is None or one["gap"] > equality.NEAR for one in wrong)
