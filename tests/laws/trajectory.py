"""Training steps on ranks: `python -m tests.laws.trajectory OUT` is one rank of 50 steps.

Plan, share, step, AdamW and schedule as a run has them, on the same global batches whatever the
ranks; dropout off. 50 samples in batches of 16: the last one of an epoch has 2.
"""

from __future__ import annotations

import sys
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from nlpkit.config.schema import TrainConfig
from nlpkit.data.plan import plan
from nlpkit.engine.precision import Precision, Step
from nlpkit.training.optim import adamw, learning_rate, set_rate
from nlpkit.training.step import optimizer_step
from tests.laws.cases import CASES, DTYPES, build_module, examples
from tests.laws.experiment import join_ranks, leave_ranks, micro_batches

OBJECTIVES = ("both weights", "regression", "token")
STEPS, SAMPLES, BATCH = 50, 50, 16


def trajectory(
    strategy: Any, objective: str, dtype: torch.dtype, precision: Precision
) -> dict[str, list[Any]]:
    """Loss, gradient norm and overflow of each step, and all weights after the last one."""
    case = CASES[objective]
    rows, module = examples(case, SAMPLES), build_module(case, dtype)
    lengths = np.array([len(row["input_ids"]) for row in rows])
    wrapped, train = strategy.wrap(module), TrainConfig()
    optimizer = adamw(module, train)
    epochs = (
        plan(lengths, seed=13, epoch=epoch, batch_size=BATCH, bucketing=True)
        for epoch in range(STEPS)
    )
    steps: list[Step] = []
    for ids in islice(chain.from_iterable(epochs), STEPS):
        taken = sum(step.taken for step in steps)
        set_rate(optimizer, learning_rate(taken, total=STEPS, peak=5e-4, train=train))
        batches = micro_batches(case, [rows[index] for index in ids], 3, strategy)
        steps.append(optimizer_step(batches, wrapped, strategy, precision, optimizer, 1.0))
    overflows = np.array([step.overflow for step in steps], np.float64)
    return {
        "loss": [step.loss for step in steps],
        "norm": [step.norm for step in steps],
        "overflow": (strategy.sum(overflows) / strategy.size).tolist(),
        "weights": torch.cat([p.detach().flatten() for p in module.parameters()]).tolist(),
    }


def trajectories(strategy: Any) -> dict[str, dict[str, list[Any]]]:
    """By objective and dtype; "fp16" starts with a scale that is too large."""
    exact = Precision("fp32", "cpu")
    scaled = Precision("fp16", "cpu")
    scaled.load_state({**scaled.state(), "scale": 2.0**22})
    return {
        f"{objective} {dtype}": trajectory(strategy, objective, DTYPES[dtype], exact)
        for objective in OBJECTIVES
        for dtype in DTYPES
    } | {"fp16": trajectory(strategy, "regression", torch.float32, scaled)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    own = join_ranks()
    leave_ranks(own, sys.argv[1], trajectories(own))
