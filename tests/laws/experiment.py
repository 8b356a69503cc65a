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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nlpkit.contracts import Batch, HeadSpec, Vocabulary
from nlpkit.data.loader import to_tensors
from nlpkit.data.plan import share
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.engine.precision import Precision
from nlpkit.nn import StepModule
from nlpkit.training.step import optimizer_step
from nlpkit_strategies.ddp import Ddp
from nlpkit_strategies.single import Single
from nlpkit_tasks.sequence.codec import SequenceCodec
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.objective import SequenceObjective
from nlpkit_tasks.sequence.task import SequenceTask
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.model import build as build_transformer

LABELS = ["a", "b", "c"]
WEIGHTS = {"a": 0.25, "b": 1.0, "c": 3.5}
MICRO_BATCHES = (1, 3, 16)
RANKS = (1, 2, 3)
SAMPLES = (16, 2)  # 2: with 3 ranks one has nothing
DTYPES = {"float64": torch.float64, "float32": torch.float32}
VOCABULARY = Vocabulary(size=50, max_length=64)
LIMITS = {"float64": 1e-10, "float32": 1e-5}


class TokenObjective:
    """A toy: weighted cross-entropy of each token, summed; tokens of -100 do not count."""

    def total(
        self, logits: torch.Tensor, targets: dict[str, torch.Tensor], rows: torch.Tensor | None
    ) -> torch.Tensor:
        losses = functional.cross_entropy(
            logits.flatten(0, 1), targets["tags"].flatten(), reduction="none", ignore_index=-100
        )
        return (losses * targets["weights"].flatten().to(losses.dtype)).sum()


@dataclass(frozen=True)
class Case:
    """An objective under test, and the same loss written plainly: a mean over the whole batch."""

    options: SequenceConfig | None
    plain: Any

    @property
    def level(self) -> str:
        return "sequence" if self.options else "token"


def _plain_class(logits: Any, batch: Batch, *, smoothing: float = 0.0) -> torch.Tensor:
    label, weight = batch.targets["label"], batch.targets["weight"].to(logits.dtype)
    log_probabilities = logits.log_softmax(-1)
    size = logits.shape[-1]
    wanted = functional.one_hot(label, size).to(logits.dtype) * (1 - smoothing) + smoothing / size
    return -(wanted * log_probabilities * weight[:, None]).sum() / weight.sum()


def _plain_multilabel(logits: Any, batch: Batch) -> torch.Tensor:
    label, weight = batch.targets["label"].to(logits.dtype), batch.targets["weight"]
    p = logits.sigmoid()
    losses = -(label * p.log() + (1 - label) * (1 - p).log())
    weights = weight.to(logits.dtype)[:, None].expand_as(losses)
    return (losses * weights).sum() / weights.sum()


def _plain_regression(logits: Any, batch: Batch) -> torch.Tensor:
    weight = batch.targets["weight"].to(logits.dtype)
    return (weight * (logits[:, 0] - batch.targets["label"].to(logits.dtype)) ** 2).sum() / (
        weight.sum()
    )


def _plain_tokens(logits: Any, batch: Batch) -> torch.Tensor:
    counted = batch.targets["tags"] != -100
    weights = batch.targets["weights"][counted].to(logits.dtype)
    losses = functional.cross_entropy(
        logits[counted], batch.targets["tags"][counted], reduction="none"
    )
    return (losses * weights).sum() / weights.sum()


CASES: dict[str, Case] = {
    "class": Case(SequenceConfig(), _plain_class),
    "class weights": Case(SequenceConfig(class_weights=WEIGHTS), _plain_class),
    "row weights": Case(SequenceConfig(weight="weight"), _plain_class),
    "both weights": Case(SequenceConfig(weight="weight", class_weights=WEIGHTS), _plain_class),
    "label smoothing": Case(
        SequenceConfig(label_smoothing=0.1, class_weights=WEIGHTS),
        lambda logits, batch: _plain_class(logits, batch, smoothing=0.1),
    ),
    "multi-label": Case(SequenceConfig(target="multilabel", weight="weight"), _plain_multilabel),
    "regression": Case(SequenceConfig(target="regression", weight="weight"), _plain_regression),
    "token-weighted": Case(None, _plain_tokens),
    "windows": Case(
        SequenceConfig(long_text="window", weight="weight", class_weights=WEIGHTS), _plain_class
    ),
}


def examples(case: Case, samples: int) -> list[dict[str, Any]]:
    """Rows of very uneven length, weight and label, encoded."""
    generator = np.random.default_rng(7)
    rows = []
    for index in range(samples):
        length = int(generator.integers(1, 40))
        label = LABELS[int(generator.integers(0, 3))]
        weight = float(generator.choice([0.0, 0.3, 1.0, 7.0])) if index else 0.7
        row: dict[str, Any] = {
            "input_ids": generator.integers(5, 50, length).astype(np.int32),
            "token_type_ids": np.zeros(length, np.uint8),
        }
        target = case.options.target if case.options else "tokens"
        if target == "tokens":
            row["tags"] = generator.choice([-100, 0, 1, 2], length).astype(np.int64)
            row["weights"] = generator.uniform(0.1, 5.0, length)
        elif target == "class":
            row["label"] = np.int64(LABELS.index(label))
        elif target == "multilabel":
            row["label"] = generator.integers(0, 2, 3).astype(np.uint8)
        else:
            row["label"] = np.float64(generator.normal())
        if case.options:
            classes = WEIGHTS[label] if case.options.class_weights != "none" else 1.0
            rows_weight = weight if case.options.weight else 1.0
            row["weight"] = np.float64(classes * rows_weight)
            if case.options.long_text == "window":  # of 11 tokens, and what is left
                row["windows"] = np.diff([*range(0, length, 11), length]).astype(np.int32)
        rows.append(row)
    return rows


def codec_of(case: Case) -> SequenceCodec:
    """The codec of a case that is no toy."""
    options = case.options or SequenceConfig()
    labels = [] if options.target == "regression" else LABELS
    schema = {"labels": labels, "counts": dict.fromkeys(labels, 1), "weights": {}, "mean": 0.0}
    return SequenceTask(options).codec(schema, VOCABULARY)


def stored(path: Path, case: Case, samples: int) -> TokenStore:
    """The rows of a case in a store."""
    with StoreWriter(path) as writer:
        for index, example in enumerate(examples(case, samples)):
            writer.append(example, f":{index}", codec_of(case).lengths(example))
    return TokenStore.open(path)


def collate(case: Case, chosen: list[dict[str, Any]]) -> Batch:
    """A batch as a task collates it; the token-weighted toy does it here."""
    if case.options:
        return to_tensors(codec_of(case).collate(chosen, [0] * len(chosen)))
    plain = [{**row, "label": np.int64(0), "weight": np.float64(1)} for row in chosen]
    batch = codec_of(CASES["class"]).collate(plain, [0] * len(chosen))
    length = batch.inputs["input_ids"].shape[1]
    tags = np.full((len(chosen), length), -100)
    weights = np.zeros((len(chosen), length))
    for place, row in enumerate(chosen):
        tags[place, : len(row["tags"])] = row["tags"]
        weights[place, : len(row["tags"])] = np.where(row["tags"] == -100, 0.0, row["weights"])
    targets = {"tags": tags, "weights": weights}
    return to_tensors(replace(batch, targets=targets, count=float(weights.sum())))


def build_module(case: Case, dtype: torch.dtype) -> StepModule:
    """The from-scratch Transformer, dropout off, the same weights in every process."""
    torch.manual_seed(5)
    size = 1 if case.options and case.options.target == "regression" else 3
    head = HeadSpec(size=size, level=case.level)
    model = build_transformer(
        TransformerConfig(layers=2, hidden=16, heads=2, dropout=0.0),
        head,
        VOCABULARY,
        weights=True,
    )
    schema = {"labels": LABELS}
    objective = SequenceObjective(case.options, schema) if case.options else TokenObjective()
    return StepModule(model, objective, head).to(dtype)


class Recorder(torch.optim.SGD):
    """Takes no step: keeps the gradient that it was given, clipped, as one vector."""

    gradient: torch.Tensor
    grad_scale: torch.Tensor

    def step(self, closure: Any = None) -> None:
        parts = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        self.gradient = (torch.cat(parts).double() / self.grad_scale).cpu()


def plain_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The model's logits; those of windows averaged one sample after the other."""
    logits = model(batch.inputs["input_ids"], batch.inputs["attention_mask"])
    if batch.rows is None:
        return logits
    parts = logits.split(batch.rows.tolist())
    return torch.stack([part.mean(dim=0) for part in parts])


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
        np.array([len(row["input_ids"]) for row in rows]),
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
