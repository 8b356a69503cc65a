"""Law 5: `python -m tests.laws.evaluation_ranks OUT` evaluates a few samples on one rank."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from nlpkit.data.loader import Loading, evaluation_batches
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.engine.precision import Precision
from nlpkit.training.evaluation import evaluate
from nlpkit_tasks.sequence.task import SequenceTask
from tests.laws.experiment import (
    CASES,
    DTYPES,
    LABELS,
    build_module,
    examples,
    join_ranks,
    leave_ranks,
)

OBJECTIVES = ("both weights", "multi-label", "regression", "windows")
SAMPLES = (13, 2)


def evaluations(strategy: Any) -> list[dict[str, Any]]:
    """Each objective, number of samples and dtype, in evaluation batches of 4."""
    found = []
    for name in OBJECTIVES:
        options = CASES[name].options
        if options is None:
            continue
        task = SequenceTask(options)
        for samples in SAMPLES:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "store"
                with StoreWriter(path) as writer:
                    for index, example in enumerate(examples(CASES[name], samples)):
                        writer.append(example, f":{index}")
                store = TokenStore.open(path)
                for dtype in DTYPES:
                    evaluation = evaluate(
                        build_module(CASES[name], DTYPES[dtype]).to(strategy.device),
                        evaluation_batches(
                            store,
                            task,
                            4,
                            Loading(rank=strategy.rank, size=strategy.size),
                        ),
                        task.metrics({"labels": LABELS, "mean": 0.0}),
                        strategy=strategy,
                        precision=Precision("fp32", strategy.device.type),
                    )
                    found.append(
                        {
                            "objective": name,
                            "samples": samples,
                            "dtype": dtype,
                            "seen": evaluation.samples,
                            "values": evaluation.values,
                        }
                    )
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    own = join_ranks()
    leave_ranks(own, sys.argv[1], evaluations(own))
