"""Law 5: `python -m tests.laws.evaluation_ranks OUT` evaluates a few samples on one rank."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nlpkit.data.loader import Loading, evaluation_batches
from nlpkit.engine.precision import Precision
from nlpkit.engine.torch import TorchEngine
from nlpkit.metrics import of_predictions
from nlpkit.training.evaluation import evaluate
from nlpkit.training.predictions import said
from tests.laws.cases import CASES, DTYPES, TASKS, build_module, codec_of, stored
from tests.laws.experiment import join_ranks, leave_ranks

OBJECTIVES = [name for task in TASKS.values() for name in task.evaluations]
SAMPLES = (13, 2)


def evaluations(strategy: Any) -> list[dict[str, Any]]:
    """Each objective, number of samples and dtype, in evaluation batches of 4."""
    found = []
    for name in OBJECTIVES:
        codec = codec_of(CASES[name])
        for samples in SAMPLES:
            with tempfile.TemporaryDirectory() as folder:
                store = stored(Path(folder) / "store", CASES[name], samples)
                share = Loading(rank=strategy.rank, size=strategy.size)
                batches = partial(evaluation_batches, store, codec, 4, share)
                for dtype in DTYPES:
                    module = build_module(CASES[name], DTYPES[dtype]).to(strategy.device)
                    options = {
                        "device": strategy.device,
                        "precision": Precision("fp32", strategy.device.type),
                    }
                    record = None
                    if of_predictions(codec.metrics()):
                        engine = TorchEngine(module.model, codec, **options)
                        record = partial(said, codec, engine)
                    evaluation = evaluate(
                        module,
                        batches(),
                        codec.metrics(),
                        strategy=strategy,
                        precision=options["precision"],
                        record=record,
                        predicted=batches(),
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
