"""Additive metrics: float64 states that sum over batches and ranks.

So N devices give the number that one gives. Conventions: 0 ÷ 0 is 0 (the precision of a label that
was never predicted, the recall of a label without rows, the correlation with a constant). A label
that has no rows and was never predicted says nothing about the model and is left out of macro
averages. Row and class weights shape the loss, not the metrics.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nlpkit.contracts import Batch, Metric

Way = Literal["higher", "lower"]

_MATRIX = 300
"""Labels whose confusion matrix is reported whole; of more, only the cells that are not 0."""


class Confusion:
    """Accuracy, macro and weighted F1 from a confusion matrix.

    Args:
        labels: The labels by id.
        target: The name of the label ids in a batch's targets, [batch].

    The state is the matrix, row by row (truth down, prediction across): its cells that are not 0.
    """

    better: Mapping[str, Way] = dict.fromkeys(("accuracy", "macro_f1", "weighted_f1"), "higher")

    def __init__(self, labels: Sequence[str], *, target: str = "label") -> None:
        self._labels, self._target = list(labels), target
        self._cells = Counter[int]()

    @property
    def state(self) -> np.ndarray:
        """[cells, 2]: the place of each, and its rows."""
        return np.array(list(self._cells.items()), np.float64).reshape(-1, 2)

    def update(self, output: np.ndarray, batch: Batch) -> None:
        """Adds a batch; `output` holds logits, [batch, labels]."""
        truth, predicted = np.asarray(batch.targets[self._target]), output.argmax(axis=-1)
        self._cells.update((truth * len(self._labels) + predicted).tolist())

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """The three values."""
        hits, predicted, support = self._counts(state)
        f1 = ratio(2 * hits, predicted + support)
        return {
            "accuracy": float(ratio(hits.sum(), support.sum())),
            "macro_f1": macro(f1, predicted + support),
            "weighted_f1": float(ratio((f1 * support).sum(), support.sum())),
        }

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """Precision, recall, F1 and support of each label, and the matrix.

        The matrix is its `rows` or, of many labels, its `cells`: ids of truth and prediction, rows.
        """
        size, places = len(self._labels), state[:, 0].astype(np.int64)
        matrix: dict[str, Any] = {"labels": self._labels}
        if size <= _MATRIX:
            cells = np.bincount(places, state[:, 1], size * size).astype(int)
            matrix["rows"] = cells.reshape(size, size).tolist()
        else:
            places, which = np.unique(places, return_inverse=True)
            rows = np.bincount(which, state[:, 1]).astype(int)
            matrix["cells"] = np.stack([places // size, places % size, rows], axis=1).tolist()
        table = per_label(self._labels, *self._counts(state))
        return {"per_class": table, "confusion_matrix": matrix}

    def _counts(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hits, predictions and rows of each label."""
        size, rows = len(self._labels), state[:, 1]
        truth, predicted = np.divmod(state[:, 0].astype(np.int64), size)
        hits = rows * (truth == predicted)
        return (
            np.bincount(truth, hits, size),
            np.bincount(predicted, rows, size),
            np.bincount(truth, rows, size),
        )


class MultilabelCounts:
    """Macro and micro F1, and the share of rows whose labels are all right.

    A label counts as predicted from a probability of 0.5.

    Args:
        labels: The labels by id.
        target: The name of the 0 and 1 in a batch's targets, [batch, labels].

    The state holds for each label the hits, the predictions and the rows, then exact rows and rows.
    """

    better: Mapping[str, Way] = dict.fromkeys(("macro_f1", "micro_f1", "subset_accuracy"), "higher")

    def __init__(self, labels: Sequence[str], *, target: str = "label") -> None:
        self._labels, self._target = list(labels), target
        self.state = np.zeros(3 * len(labels) + 2)

    def update(self, output: np.ndarray, batch: Batch) -> None:
        """Adds a batch; `output` holds logits, [batch, labels]."""
        truth, predicted = np.asarray(batch.targets[self._target]) > 0, output >= 0
        counts = [part.sum(axis=0) for part in (truth & predicted, predicted, truth)]
        exact = (truth == predicted).all(axis=1)
        self.state += np.concatenate([*counts, [exact.sum(), len(exact)]])

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """The three values."""
        hits, predicted, support = self._counts(state)
        either = predicted + support
        return {
            "macro_f1": macro(ratio(2 * hits, either), either),
            "micro_f1": float(ratio(2 * hits.sum(), either.sum())),
            "subset_accuracy": float(ratio(state[-2], state[-1])),
        }

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """Precision, recall, F1 and support of each label."""
        return {"per_class": per_label(self._labels, *self._counts(state))}

    def _counts(self, state: np.ndarray) -> np.ndarray:
        return state[:-2].reshape(3, len(self._labels))


class RegressionMoments:
    """Mean squared error and Pearson's correlation.

    Args:
        shift: A number near the targets, such as their mean in training, the same on every rank:
            moments about it keep the correlation's digits where targets are far from 0.
        target: The name of the numbers in a batch's targets, [batch].

    The state holds the rows, the squared error, and Σt, Σp, Σt², Σp², Σtp about the shift.
    """

    better: Mapping[str, Way] = {"mse": "lower", "pearson": "higher"}

    def __init__(self, *, shift: float = 0.0, target: str = "label") -> None:
        self._shift, self._target = shift, target
        self.state = np.zeros(7)

    def update(self, output: np.ndarray, batch: Batch) -> None:
        """Adds a batch; `output` holds values, [batch] or [batch, 1]."""
        t = np.asarray(batch.targets[self._target], np.float64) - self._shift
        p = output.reshape(-1).astype(np.float64) - self._shift
        moments = [len(t), np.square(p - t).sum(), t.sum(), p.sum(), t @ t, p @ p, t @ p]
        self.state += np.array(moments, np.float64)

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """Both values."""
        rows, squared_error, t, p, tt, pp, tp = state
        rows = max(rows, 1.0)
        spread_t, spread_p = tt - t * t / rows, pp - p * p / rows
        # Below this a spread is rounding: the values are constant.
        constant = spread_t <= 1e-13 * tt or spread_p <= 1e-13 * pp
        pearson = 0.0 if constant else (tp - t * p / rows) / np.sqrt(spread_t * spread_p)
        return {"mse": float(squared_error / rows), "pearson": float(np.clip(pearson, -1, 1))}

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """Nothing more."""
        return {}


def of_predictions(metrics: Iterable[Metric]) -> list[Metric]:
    """Those that measure what is predicted, and not what the objective gives."""
    return [metric for metric in metrics if getattr(metric, "of", "") == "predictions"]


def ratio(part: Any, whole: Any) -> Any:
    """`part` ÷ `whole`, and 0 where `whole` is 0."""
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole != 0)


def macro(f1: np.ndarray, seen: np.ndarray) -> float:
    """The mean over the labels of which `seen` is not 0."""
    return float(ratio(f1.sum(), np.count_nonzero(seen)))


def per_label(
    labels: Sequence[str], hits: np.ndarray, predicted: np.ndarray, support: np.ndarray
) -> list[dict[str, Any]]:
    """A row for each label: precision, recall, F1 and support."""
    columns: dict[str, Sequence[Any]] = {
        "label": labels,
        "precision": ratio(hits, predicted).tolist(),
        "recall": ratio(hits, support).tolist(),
        "f1": ratio(2 * hits, predicted + support).tolist(),
        "support": support.astype(int).tolist(),
    }
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]
