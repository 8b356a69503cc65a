"""Law 1 over many steps: DDP on some ranks is single, on the same global batches."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.laws.cases import DTYPES
from tests.laws.experiment import on_one, run_ranks
from tests.laws.trajectory import OBJECTIVES, STEPS, trajectories

pytestmark = pytest.mark.slow

TOGETHER = (2, 3)
NORMS_AND_LOSSES = {"float64": 1e-10, "float32": 1e-5}
WEIGHTS = {"float64": 1e-10, "float32": 1e-4}  # AdamW turns the noise of a zero gradient into steps


@cache
def found(ranks: int) -> dict[str, Any]:
    return run_ranks("tests.laws.trajectory", ranks) if ranks > 1 else on_one(trajectories)


def differences(ranks: int, key: str) -> dict[str, float]:
    """The largest relative ones of the first 10 steps, and |w − w'| / |w| after the last."""
    alone, together = found(1)[key], found(ranks)[key]
    steps = {
        name: np.max(np.abs(np.divide(together[name], alone[name]) - 1)[:10])
        for name in ("loss", "norm")
    }
    weights, others = np.array(alone["weights"]), np.array(together["weights"])
    return {**steps, "weights": np.linalg.norm(weights - others) / np.linalg.norm(weights)}


@pytest.mark.parametrize("ranks", TOGETHER)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ddp_takes_the_steps_of_a_single_device(objective, dtype, ranks):
    key = f"{objective} {dtype}"
    assert len(found(ranks)[key]["loss"]) == STEPS
    difference = differences(ranks, key)
    assert difference["loss"] < NORMS_AND_LOSSES[dtype], difference
    assert difference["norm"] < NORMS_AND_LOSSES[dtype], difference
    assert difference["weights"] < WEIGHTS[dtype], difference


@pytest.mark.parametrize("ranks", [1, *TOGETHER])
def test_ranks_agree_on_the_steps_that_overflow(ranks):
    overflows = found(ranks)["fp16"]["overflow"]  # a mean over the ranks
    assert set(overflows) == {0.0, 1.0}
    assert sum(overflows) < 12
    assert all(map(math.isfinite, found(ranks)["fp16"]["loss"]))
