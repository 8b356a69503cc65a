"""The loss of tasks that tell tokens of the vocabulary, summed over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlpkit.nn import place_scores, summed_cross_entropy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from nlpkit.nn import Projection


class VocabularyObjective:
    """Cross-entropy of the tokens that are targets, summed."""

    def __init__(self, options: Any, schema: Mapping[str, Any]) -> None:
        self._smoothing = getattr(options, "label_smoothing", 0.0)

    def total(
        self, logits: Tensor | Projection, targets: Mapping[str, Tensor], rows: Tensor | None
    ) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: Of shape [rows, places, vocabulary].
            targets: `ids`, [rows, places]; -100 for a place that has no target.
            rows: None: each sample is a row.
        """
        return summed_cross_entropy(logits, targets["ids"], smoothing=self._smoothing)

    def output(
        self, logits: Tensor | Projection, targets: Mapping[str, Tensor], rows: Tensor | None
    ) -> Tensor:
        """For each place the nats of its target, and 1 where that is the likeliest: [..., 2]."""
        return place_scores(logits, targets["ids"])
