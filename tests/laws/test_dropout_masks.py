"""Dropout draws another mask in each step and on each rank.

Neither the gradient of law 1, which has no dropout, nor a resumed run would show one that is drawn
again and again. Here all rows are alike and the weights stand still, so a loss differs from another
only by its masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import nlpkit
from nlpkit.cli.render import Terminal
from nlpkit.run.session import Session
from nlpkit_strategies.single import Single
from tests.training.test_trainer import config

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [{"text": "where is my parcel", "label": 1.0}] * 16
STEPS = 4


def trained(out: Path, *, dropout: float, batch_size: int = 16, **changes: Any) -> nlpkit.Run:
    train = {"epochs": STEPS, "max_steps": STEPS, "batch_size": batch_size, "learning_rate": 1e-30}
    task = {"name": "sequence", "target": "regression"}
    given = config(dropout=dropout, task=task, train=train, device="cpu", **changes)
    return nlpkit.train(given, data={"train": ROWS}, out=out)


def losses(run: nlpkit.Run) -> list[float]:
    return [line["loss"] for line in run.history]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> nlpkit.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return trained(tmp_path_factory.mktemp("runs") / "run", dropout=0.3)


def test_each_step_has_masks_of_its_own(run: nlpkit.Run, tmp_path: Path) -> None:
    assert len(set(losses(run))) == STEPS
    assert len(set(losses(trained(tmp_path / "none", dropout=0.0)))) == 1


def losses_of_rank(run: nlpkit.Run, rank: int) -> list[float]:
    """Those of one of two ranks, which says nothing to the other."""
    strategy = Single(torch.device("cpu"))
    strategy.rank, strategy.size = rank, 2
    session = Session(run.path, terminal=Terminal())
    session.strategy = strategy
    trainer = session._trainer()
    lines: list[Any] = []
    trainer.save, trainer.saved = lambda *_: None, list
    trainer.tell = lambda _, event: lines.append(event.logged)
    trainer.start_clock()
    assert trainer.run()
    return [line["loss"] for line in lines]


def test_each_rank_has_masks_of_its_own(run: nlpkit.Run) -> None:
    first, second = losses_of_rank(run, 0), losses_of_rank(run, 1)
    assert len({*first, *second}) == 2 * STEPS
    assert losses_of_rank(run, 0) == first


@pytest.mark.slow
def test_two_ranks_are_not_one_twice(tmp_path: Path) -> None:
    ranks = trained(tmp_path / "two", dropout=0.3, strategy={"name": "ddp", "devices": 2})
    half = trained(tmp_path / "one", dropout=0.3, batch_size=8)
    for both, one in zip(losses(ranks), losses(half), strict=True):
        assert abs(both - one) > 1e-5
    exact = trained(tmp_path / "exact", dropout=0.0, strategy={"name": "ddp", "devices": 2})
    plain = trained(tmp_path / "plain", dropout=0.0, batch_size=8)
    assert losses(exact) == pytest.approx(losses(plain), abs=1e-6)
