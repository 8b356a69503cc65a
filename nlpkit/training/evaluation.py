"""Evaluation: the same number on one and on N devices, in constant memory (law 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpkit.engine.precision import widest
from nlpkit.metrics import of_predictions
from nlpkit.training.diagnostics import explained
from nlpkit.training.step import to_arrays, to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nlpkit.contracts import Batch, Metric, Strategy
    from nlpkit.engine.precision import Precision
    from nlpkit.nn import StepModule
    from nlpkit.training.predictions import Record


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a split came to.

    Attributes:
        values: "loss", then every value of the metrics.
        samples: How many samples were seen, over all ranks.
        details: What the metrics report beside their values, such as a confusion matrix; None
            where it has to be found out again, for no checkpoint holds it.
    """

    values: dict[str, float]
    samples: int
    details: dict[str, Any] | None = None


def evaluate(
    module: StepModule,
    batches: Iterable[Batch],
    metrics: Sequence[Metric],
    *,
    strategy: Strategy,
    precision: Precision,
    stop: Callable[[], bool] = lambda: False,
    record: Record | None = None,
    predicted: Iterable[Batch] = (),
) -> Evaluation | None:
    """Runs the bare module over this rank's batches; everything adds up, and is reduced at the end.

    Args:
        module: Model and objective, not wrapped, so that uneven shares cannot hang.
        batches: This rank's share of the split.
        metrics: Fresh ones.
        strategy: Where the module is, and how ranks add up.
        precision: Of the forward pass; losses are float32 or float64, sums as wide as can be.
        stop: Polled once a batch.
        record: Takes the outputs of each batch, logits in float32 (none of a projection), and the
            batch in numpy, and gives its predictions.
        predicted: This rank's share of what metrics of predictions see; where there are such ones,
            `record` is asked for these batches alone, without outputs.

    Returns:
        What it came to; None on every rank as soon as one was asked to stop.
    """
    total = torch.zeros((), dtype=widest(strategy.device), device=strategy.device)
    count, samples, stopping = 0.0, 0, False
    told = of_predictions(metrics)
    training = module.training
    module.eval()
    with torch.inference_mode():
        for batch in batches:
            if stopping := stop():
                break
            moved = to_device(batch, strategy.device)
            with explained(strategy.device), precision.autocast():
                logits = module.logits(moved.inputs)
                total += module.objective.total(logits, moved.targets, moved.rows)
                output = module.objective.output(logits, moved.targets, moved.rows)
            host, known = output.cpu().numpy(), to_arrays(batch)
            for metric in metrics:
                if metric not in told:
                    metric.update(host, known)
            if record and not told:
                whole = isinstance(logits, torch.Tensor)
                record({"logits": logits.float().cpu().numpy()} if whole else {}, known)
            count += batch.count
            samples += len(batch.ids)
    if record and told:
        for known in map(to_arrays, predicted):
            if stopping := stopping or stop():
                break
            predictions = record({}, known)
            for metric in told:
                metric.update(predictions, known)
    module.train(training)
    sums = strategy.sum(np.array([total.item(), count, samples, float(stopping)]))
    if sums[3]:
        return None
    values = {"loss": float(sums[0] / sums[1]) if sums[1] else float("nan")}
    details: dict[str, Any] = {}
    for metric in metrics:
        state = _of_all_ranks(metric.state, strategy)
        values |= metric.compute(state)
        details |= metric.details(state)
    return Evaluation(values=values, samples=int(sums[2]), details=details)


def _of_all_ranks(state: np.ndarray, strategy: Strategy) -> np.ndarray:
    """A metric's states added up: a vector, or the places and values of one."""
    if state.ndim == 1:
        return strategy.sum(state)
    sizes = np.zeros(strategy.size)
    sizes[strategy.rank] = len(state)
    ends = np.cumsum(strategy.sum(sizes)).astype(int)
    whole = np.zeros((ends[-1], 2))
    whole[ends[strategy.rank] - len(state) : ends[strategy.rank]] = state
    return strategy.sum(whole.ravel()).reshape(-1, 2)
