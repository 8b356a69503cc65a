"""Entities that were found, counted: an additive metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.metrics import macro, per_label, ratio
from nlpkit_tasks.token.outputs import chosen
from nlpkit_tasks.token.tags import entities, names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nlpkit.contracts import Batch
    from nlpkit.metrics import Way


class EntityCounts:
    """Precision, recall and F1 of entities, by exact place and type; and the share of right tags.

    Args:
        labels: The types of entities.

    The values over all types are micro averages; `macro_f1` is the mean over the types that gold or
    predictions have. The state holds for each type the hits, the predictions and the entities, then
    the words with the right tag, and the words.
    """

    better: Mapping[str, Way] = {
        "f1": "higher",
        "precision": "higher",
        "recall": "higher",
        "macro_f1": "higher",
        "token_accuracy": "higher",
    }

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels, self._tags = list(labels), names(labels)
        self._ids = {label: place for place, label in enumerate(labels)}
        self.state = np.zeros(3 * len(labels) + 2)

    def update(self, output: np.ndarray, batch: Batch) -> None:
        """Adds a batch; `output` holds logits, [rows, tokens, tags]."""
        counts = self._counts(self.state)
        for (predicted, _), truth in zip(chosen(output, batch), batch.about["tags"], strict=True):
            self.state[-2:] += (predicted == truth).sum(), len(truth)
            found, there = (
                {*entities([self._tags[tag] for tag in tags])} if tags.any() else set()
                for tags in (predicted, truth)
            )
            for row, group in zip(counts, (found & there, found, there), strict=True):
                for entity in group:
                    row[self._ids[entity.label]] += 1

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """The values."""
        hits, predicted, support = self._counts(state)
        either = predicted + support
        return {
            "f1": float(ratio(2 * hits.sum(), either.sum())),
            "precision": float(ratio(hits.sum(), predicted.sum())),
            "recall": float(ratio(hits.sum(), support.sum())),
            "macro_f1": macro(ratio(2 * hits, either), either),
            "token_accuracy": float(ratio(state[-2], state[-1])),
        }

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """Precision, recall, F1 and support of each type."""
        return {"per_class": per_label(self._labels, *self._counts(state))}

    def _counts(self, state: np.ndarray) -> np.ndarray:
        """Hits, predictions and entities of each type: a view."""
        return state[:-2].reshape(3, len(self._labels))
