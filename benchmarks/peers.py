"""What every trainer gets in the side-by-side experiment: rows, models, losses, and the truth.

The rows, the losses and the from-scratch Transformer are those of `tests.laws.experiment`; a peer
gets them in the way that its documentation shows, and has nothing but its split to get wrong.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from nlpkit_tasks.sequence.config import SequenceConfig
from tests.laws.cases import CASES, LABELS, WEIGHTS, Case, build_module, collate, examples
from tests.laws.experiment import MICRO_BATCHES, relative_difference

OBJECTIVES: dict[str, Case] = {
    "class": CASES["class"],
    "class weights": CASES["class weights"],
    "multi-label": Case(SequenceConfig(target="multilabel"), CASES["multi-label"].plain),
    "regression": Case(SequenceConfig(target="regression"), CASES["regression"].plain),
    "tokens": Case(None, CASES["token-weighted"].plain),
}
BATCH = 16
PARTIAL_MICRO_BATCHES = (1, 4)
EVALUATED, EVALUATION_BATCH = 13, 4

Row = dict[str, Any]
Fit = Callable[[str, "Window"], list[torch.Tensor]]
Loss = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Window:
    """Which optimizer step is looked at, and how it is split.

    Attributes:
        kind: "whole": the data are one batch of 16; "partial": they are 24, and the epoch ends
            with half a batch.
        ranks: Over how many processes.
        asked: Samples in a forward pass, as asked for.
    """

    kind: str
    ranks: int
    asked: int

    @property
    def micro_batch(self) -> int:
        """Samples in a forward pass: no more than the device's share of the batch."""
        return min(self.asked, -(-BATCH // self.ranks))

    @property
    def accumulation(self) -> int:
        """Forward passes of one rank in an optimizer step."""
        return -(-BATCH // (self.ranks * self.micro_batch))

    def rows(self, objective: str) -> list[Row]:
        """The data, in the order in which they are trained on."""
        return rows(objective, BATCH if self.kind == "whole" else BATCH + BATCH // 2)

    def wanted(self, objective: str) -> list[Row]:
        """The rows of the step that is looked at: the last one."""
        found = self.rows(objective)
        return found if self.kind == "whole" else found[BATCH:]


def windows(ranks: int) -> Iterator[Window]:
    """Everything that is measured on so many ranks.

    A whole batch is split in all ways of law 1. Half a batch only where 16 samples can be shared
    out evenly: a peer's batch on 3 ranks is never one of 16, so its windows would be others.
    """
    for micro in MICRO_BATCHES:
        yield Window("whole", ranks, micro)
    for micro in PARTIAL_MICRO_BATCHES if BATCH % ranks == 0 else ():
        yield Window("partial", ranks, micro)


def rows(objective: str, samples: int) -> list[Row]:
    """The rows of law 1; every counted token counts the same here."""
    found = examples(OBJECTIVES[objective], samples)
    if objective == "tokens":
        return [{**row, "weights": np.ones(len(row["tags"]))} for row in found]
    return found


def peer_batch(objective: str, chosen: list[Row]) -> dict[str, torch.Tensor]:
    """A batch as users of the peers make it: inputs and `labels`, of the type the loss wants."""
    batch = collate(OBJECTIVES[objective], chosen)
    labels = batch.targets["tags" if objective == "tokens" else "label"]
    if objective in ("multi-label", "regression"):
        labels = labels.float()
    inputs = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
    return {**inputs, "labels": labels}


def loss_of(
    objective: str, logits: torch.Tensor, labels: torch.Tensor, reduction: str = "mean"
) -> torch.Tensor:
    """The loss of a batch as torch has it; its mean is what a user's training step returns."""
    if objective == "multi-label":
        return functional.binary_cross_entropy_with_logits(logits, labels, reduction=reduction)
    if objective == "regression":
        return functional.mse_loss(logits.squeeze(-1), labels, reduction=reduction)
    weight = torch.tensor(list(WEIGHTS.values())) if objective == "class weights" else None
    return functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), weight=weight, reduction=reduction
    )


def own_model(objective: str) -> nn.Module:
    """The from-scratch Transformer of law 1: inputs to logits."""
    return build_module(OBJECTIVES[objective], torch.float32).model


def bert_model(objective: str) -> transformers.PreTrainedModel:
    """A small BERT of transformers under its own head, dropout off."""
    torch.manual_seed(5)
    problems = {"multi-label": "multi_label_classification", "regression": "regression"}
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=1 if objective == "regression" else len(LABELS),
        problem_type=problems.get(objective, "single_label_classification"),
    )
    if objective == "tokens":
        return transformers.BertForTokenClassification(config)
    return transformers.BertForSequenceClassification(config)


class Recorder(torch.optim.SGD):
    """Takes no step: keeps every gradient that it was given, as one vector."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.0)
        self.gradients: list[torch.Tensor] = []

    def step(self, closure: Any = None) -> Any:
        """Keeps the gradient; a closure, if there is one, computes it first."""
        loss = closure() if closure else None
        self.gradients.append(gradient_of(self.param_groups[0]["params"]))
        return loss


def gradient_of(parameters: Any) -> torch.Tensor:
    """The gradient as one float64 vector; what has none counts as 0."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([part.flatten() for part in parts]).double().cpu()


def plain_gradient(
    objective: str, chosen: list[Row], model: nn.Module, loss: Loss = loss_of
) -> torch.Tensor:
    """A plain PyTorch loop: all rows at once, their loss, backward."""
    batch = peer_batch(objective, chosen)
    loss(objective, logits_of(model, batch), batch["labels"]).backward()
    return gradient_of(model.parameters())


def logits_of(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits, whether a model gives them alone or among others."""
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return output if isinstance(output, torch.Tensor) else output["logits"]


def measure(
    objectives: tuple[str, ...],
    ranks: int,
    model: Callable[[str], nn.Module],
    fit: Fit,
    loss: Loss = loss_of,
) -> list[dict[str, Any]]:
    """Every objective in every window: how far the last step's gradient is from the truth.

    Args:
        objectives: Those that the trainer can express.
        ranks: How many processes there are.
        model: Builds the model for an objective, always with the same weights.
        fit: Trains one epoch; the gradients of its optimizer steps.
        loss: What the loss of a batch is, where all of it is there at once.
    """
    found = []
    for objective in objectives:
        for window in windows(ranks):
            gradients = fit(objective, window)
            steps = 1 if window.kind == "whole" else 2
            if len(gradients) != steps:
                raise RuntimeError(f"{window}: {len(gradients)} optimizer steps, not {steps}")
            truth = plain_gradient(objective, window.wanted(objective), model(objective), loss)
            found.append(
                {
                    "objective": objective,
                    "window": window.kind,
                    "ranks": ranks,
                    "asked": window.asked,
                    "gradient": relative_difference(gradients[-1], truth),
                    "ratio": (gradients[-1].norm() / truth.norm()).item(),
                }
            )
    return found


def plain_evaluation(model: nn.Module) -> dict[str, float]:
    """All rows at once: the mean loss and the accuracy that an evaluation should give."""
    batch = peer_batch("class", rows("class", EVALUATED))
    with torch.inference_mode():
        logits = logits_of(model, batch)
    accuracy = (logits.argmax(-1) == batch["labels"]).double().mean()
    loss = loss_of("class", logits, batch["labels"])
    return {"samples": EVALUATED, "loss": loss.item(), "accuracy": accuracy.item()}


def evaluated(found: dict[str, float], model: nn.Module, ranks: int) -> dict[str, Any]:
    """A line of the table of evaluations: what was found, and the truth beside it."""
    return {"ranks": ranks, **found, "truth": plain_evaluation(model)}


def environment_of_ranks(port: str) -> tuple[int, int]:
    """Sets what the peers read to find each other; rank and number of ranks."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if size == 1:  # alone: no launcher started this process
        del os.environ["RANK"], os.environ["WORLD_SIZE"]
        return 0, 1
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size), "NODE_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return rank, size


def free_port() -> str:
    """A port of this machine that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])
