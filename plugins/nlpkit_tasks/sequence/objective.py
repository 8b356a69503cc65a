"""The losses of the task `sequence`, summed over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from nlpkit_tasks.sequence.config import SequenceConfig


class SequenceObjective:
    """Cross-entropy, binary cross-entropy or squared error, times each sample's weight, summed."""

    def __init__(self, options: SequenceConfig, schema: Mapping[str, Any]) -> None:
        self._loss = {
            "class": self._cross_entropy,
            "multilabel": _binary_cross_entropy,
            "regression": _squared_error,
        }[options.target]
        self._smoothing = options.label_smoothing

    def total(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """The loss, a scalar of the logits' dtype.

        Args:
            logits: [batch, labels], or [batch, 1] for regression.
            targets: `label`, [batch] of ids or numbers, or [batch, labels] of 0 and 1;
                `weight`, [batch].
        """
        losses_B = self._loss(logits, targets["label"])
        return (losses_B * targets["weight"].to(losses_B.dtype)).sum()

    def output(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """The logits."""
        return logits

    def _cross_entropy(self, logits: Tensor, label_B: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits, label_B, reduction="none", label_smoothing=self._smoothing
        )


def _binary_cross_entropy(logits: Tensor, labels_BL: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(
        logits, labels_BL.to(logits.dtype), reduction="none"
    ).sum(dim=-1)


def _squared_error(logits: Tensor, value_B: Tensor) -> Tensor:
    return (logits.squeeze(-1) - value_B.to(logits.dtype)).square()
