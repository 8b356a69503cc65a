"""Law 1: the gradient of one optimizer step, split in every way, against a plain loop.

`python -m tests.laws.experiment OUT.json` is one rank (RANK, WORLD_SIZE, and a rendezvous file in
STORE); rank 0 writes the gradients' differences of all cases. `run_ranks` starts as many as asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nlpkit.contracts import Batch
from nlpkit.data.plan import share
from nlpkit.engine.precision import Precision
from nlpkit.training.step import optimizer_step
from nlpkit_strategies.ddp import Ddp
from nlpkit_strategies.single import Single
from tests.laws.cases import (
    CASES,
    DTYPES,
    Case,
    build_module,
    codec_of,
    collate,
    examples,
    plain_logits,
)

MICRO_BATCHES = (1, 3, 16)
RANKS = (1, 2, 3)
SAMPLES = (16, 2)  # 2: with 3 ranks one has nothing
LIMITS = {"float64": 1e-10, "float32": 1e-5}


class Recorder(torch.optim.SGD):
    """Takes no step: keeps the gradient that it was given, clipped, as one vector."""

    gradient: torch.Tensor
    grad_scale: torch.Tensor

    def step(self, closure: Any = None) -> None:
        parts = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        self.gradient = (torch.cat(parts).double() / self.grad_scale).cpu()


def plain_gradient(case: Case, samples: int, dtype: torch.dtype) -> tuple[torch.Tensor, float]:
    """A plain PyTorch loop: the whole batch at once, the mean loss, backward."""
    module = build_module(case, dtype)
    batch = collate(case, examples(case, samples))
    loss = case.plain(plain_logits(module.model, batch), batch)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in module.parameters()]).double(), loss.item()


def step_gradient(
    case: Case,
    samples: int,
    micro_batch: int,
    strategy: Any,
    dtype: torch.dtype,
    *,
    precision: str = "fp32",
    max_norm: float = float("inf"),
) -> tuple[torch.Tensor, float]:
    """nlpkit's step on this rank's micro-batches of the same batch."""
    module = build_module(case, dtype).to(strategy.device)
    wrapped: nn.Module = strategy.wrap(module)
    batches = micro_batches(case, examples(case, samples), micro_batch, strategy)
    recorder = Recorder(module.parameters(), lr=0.0)
    precise = Precision(precision, strategy.device.type)
    step = optimizer_step(batches, wrapped, strategy, precise, recorder, max_norm)
    return recorder.gradient, step.loss


def micro_batches(
    case: Case, rows: list[dict[str, Any]], micro_batch: int | None, strategy: Any
) -> list[Batch]:
    """A rank's share of the batch that `rows` are, as the loader gives it."""
    own = share(
        np.arange(len(rows)),
        np.array([sum(map(sum, codec_of(case).lengths(row))) for row in rows]),
        rank=strategy.rank,
        size=strategy.size,
        micro_batch_size=micro_batch,
        rows=np.array([len(row.get("windows", "1")) for row in rows]),
    )
    batches = [collate(case, [rows[index] for index in part]) for part in own]
    return batches or [replace(collate(case, rows[:1]), weight=0.0, count=0.0)]


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|g − g'| / |g| over the whole gradient vector."""
    return ((found - expected).norm() / expected.norm()).item()


def differences(strategy: Any) -> list[dict[str, Any]]:
    """Every case on this strategy's ranks."""
    found = []
    for name, case in CASES.items():
        for dtype in DTYPES:
            for samples in SAMPLES:
                expected, loss = plain_gradient(case, samples, DTYPES[dtype])
                for micro in MICRO_BATCHES:
                    gradient, split_loss = step_gradient(
                        case, samples, micro, strategy, DTYPES[dtype]
                    )
                    found.append(
                        {
                            "objective": name,
                            "dtype": dtype,
                            "samples": samples,
                            "micro_batch": micro,
                            "ranks": strategy.size,
                            "gradient": relative_difference(gradient, expected),
                            "loss": abs(split_loss - loss) / abs(loss),
                        }
                    )
    return found


def on_one(measure: Callable[[Any], Any]) -> Any:
    """What is measured on a single device: in this process, on one thread, as a rank has it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure(Single(torch.device("cpu")))
    finally:
        torch.set_num_threads(threads)


def run_ranks(module: str, ranks: int, *arguments: str) -> Any:
    """Runs `python -m MODULE OUT ARGUMENTS` on ranks over gloo; what rank 0 wrote as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        environment = {**os.environ, "WORLD_SIZE": str(ranks), "STORE": f"{folder}/store"}
        environment["OMP_NUM_THREADS"] = "1"
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", module, str(out), *arguments],
                env={**environment, "RANK": str(rank)},
                cwd=Path(__file__).parents[2],
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(ranks)
        ]
        try:
            errors = [process.communicate(timeout=300)[1] for process in processes]
        finally:  # one that waits for a rank that is gone would stay
            for process in processes:
                process.kill()
        if any(process.returncode for process in processes):
            raise RuntimeError("\n".join(errors))
        return json.loads(out.read_text())


def join_ranks() -> Any:
    """This process's strategy: DDP over gloo, or a single device where it is alone."""
    size = int(os.environ["WORLD_SIZE"])
    if size == 1:
        return Single(torch.device("cpu"))
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{os.environ['STORE']}",
        rank=int(os.environ["RANK"]),
        world_size=size,
    )
    return Ddp(torch.device("cpu"))


def leave_ranks(strategy: Any, out: str, value: Any) -> None:
    """Rank 0 writes what was found; all leave together, without the interpreter's own end: gloo's
    threads may outlive it, and then it aborts."""
    if strategy.rank == 0:
        Path(out).write_text(json.dumps(value))
    if strategy.size > 1:
        torch.distributed.barrier()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    own = join_ranks()
    leave_ranks(own, sys.argv[1], differences(own))
