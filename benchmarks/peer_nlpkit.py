"""The peers' experiment with nlpkit itself: `python -m benchmarks.peer_nlpkit OUT PORT`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import (
    EVALUATED,
    EVALUATION_BATCH,
    OBJECTIVES,
    Recorder,
    Window,
    evaluated,
    measure,
    own_model,
    rows,
)
from nlpkit.data.loader import Loading, evaluation_batches
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.engine.precision import Precision
from nlpkit.training.evaluation import evaluate as evaluate_split
from nlpkit.training.step import optimizer_step
from tests.laws.cases import CASES, build_module, codec_of
from tests.laws.experiment import join_ranks, leave_ranks, micro_batches


def fit(objective: str, window: Window, *, strategy: Any) -> list[torch.Tensor]:
    """One epoch; its batches are cut as for the peers, here by hand: 16 rows, then the rest."""
    module = build_module(OBJECTIVES[objective], torch.float32)
    wrapped = strategy.wrap(module)
    recorder = Recorder(module.parameters())
    found = window.rows(objective)
    for batch in [part for part in (found[:16], found[16:]) if part]:
        batches = micro_batches(OBJECTIVES[objective], batch, window.micro_batch, strategy)
        optimizer_step(batches, wrapped, strategy, Precision("fp32", "cpu"), recorder, float("inf"))
    return recorder.gradients


def evaluate(strategy: Any) -> dict[str, float]:
    """Loss, accuracy and count of the 13 rows."""
    codec = codec_of(CASES["class"])
    with tempfile.TemporaryDirectory() as folder:
        with StoreWriter(Path(folder) / "store") as writer:
            for index, row in enumerate(rows("class", EVALUATED)):
                writer.append(row, f":{index}", codec.lengths(row))
        found = evaluate_split(
            build_module(OBJECTIVES["class"], torch.float32),
            evaluation_batches(
                TokenStore.open(Path(folder) / "store"),
                codec,
                EVALUATION_BATCH,
                Loading(rank=strategy.rank, size=strategy.size),
            ),
            codec.metrics(),
            strategy=strategy,
            precision=Precision("fp32", "cpu"),
        )
    if found is None:  # nothing asks it to stop
        raise RuntimeError("the evaluation was stopped")
    return {"samples": found.samples, **{name: found.values[name] for name in ("loss", "accuracy")}}


def main(out: str, _port: str) -> None:
    """Everything on this process's ranks."""
    torch.set_num_threads(1)
    strategy = join_ranks()
    found = {
        "nlpkit": measure(
            tuple(OBJECTIVES),
            strategy.size,
            own_model,
            lambda *which: fit(*which, strategy=strategy),
        ),
        "evaluation": {"nlpkit": evaluated(evaluate(strategy), own_model("class"), strategy.size)},
    }
    leave_ranks(strategy, out, found)


if __name__ == "__main__":
    main(*sys.argv[1:])
