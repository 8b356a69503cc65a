"""What observers are told; `nlpkit.contracts.Observer` says when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """Training begins, or goes on after `steps_done` steps.

    `config` is the resolved config as plain data.
    """

    run_dir: Path
    config: Mapping[str, Any]
    epochs: int
    total_steps: int
    steps_done: int
    device: str


@dataclass(frozen=True, kw_only=True)
class StepEnded:
    """An optimizer step ended. `ids`: the samples of the whole batch; `loss` is its mean, or 0
    where all of them weigh nothing, so that the step was not taken.

    `logged` is its line in metrics.jsonl, on steps that have one.
    """

    step: int
    epoch: int
    loss: float
    grad_norm: float
    learning_rate: float
    taken: bool
    ids: np.ndarray
    logged: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A split was evaluated. `logged` is its line in metrics.jsonl; `best`: the best so far."""

    step: int
    epoch: int
    split: str
    logged: Mapping[str, Any]
    best: bool


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved:
    """A checkpoint is on disk, whole. `best`: it holds the best model so far."""

    step: int
    path: Path
    best: bool


@dataclass(frozen=True, kw_only=True)
class RunEnded:
    """Training ended. `result` is what result.json holds.

    Where it failed, `result` has the `error`; where it was asked to stop, the step under `stopped`.
    """

    result: Mapping[str, Any]
