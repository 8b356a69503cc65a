"""Evaluation: the same number on one and on N devices, in constant memory (law 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpkit.training.step import explained, to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nlpkit.contracts import Batch, Metric, Strategy
    from nlpkit.nn import StepModule
    from nlpkit.training.precision import Precision


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a split came to.

    Attributes:
        values: "loss", then every value of the metrics.
        details: What the metrics report beside their values, such as a confusion matrix.
        samples: How many samples were seen, over all ranks.
    """

    values: dict[str, float]
    details: dict[str, Any]
    samples: int


def evaluate(
    module: StepModule,
    batches: Iterable[Batch],
    metrics: Sequence[Metric],
    *,
    strategy: Strategy,
    precision: Precision,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Runs the bare module over this rank's batches; everything adds up, and is reduced once.

    Args:
        module: Model and objective, not wrapped, so that uneven shares cannot hang.
        batches: This rank's share of the split.
        metrics: Fresh ones.
        strategy: Where the module is, and how ranks add up.
        precision: Of the forward pass; losses are float32 or float64, sums float64.
        stop: Polled once a batch.

    Returns:
        What it came to; None on every rank as soon as one was asked to stop.
    """
    total = torch.zeros((), dtype=torch.float64, device=strategy.device)
    count, samples, stopping = 0.0, 0, False
    training = module.training
    module.eval()
    with torch.inference_mode():
        for batch in batches:
            if stopping := stop():
                break
            moved = to_device(batch, strategy.device)
            with explained(strategy.device), precision.autocast():
                logits = module.logits(moved.inputs)
            total += module.objective.total(logits, moved.targets)
            output = module.objective.output(logits, moved.targets).cpu().numpy()
            targets = {name: value.numpy() for name, value in batch.targets.items()}
            for metric in metrics:
                metric.update(output, replace(batch, targets=targets))
            count += batch.count
            samples += len(batch.ids)
    module.train(training)
    states = [metric.state for metric in metrics]
    sums = [total.item(), count, samples, float(stopping)]
    summed = strategy.sum(np.concatenate([sums, *states]))
    if summed[3]:
        return None
    values = {"loss": float(summed[0] / summed[1]) if summed[1] else float("nan")}
    details: dict[str, Any] = {}
    start = len(sums)
    for metric, state in zip(metrics, states, strict=True):
        merged = summed[start : start + len(state)]
        values |= metric.compute(merged)
        details |= metric.details(merged)
        start += len(state)
    return Evaluation(values=values, details=details, samples=int(summed[2]))
