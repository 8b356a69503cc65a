"""The losses of the task `sequence`, summed over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
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

    def total(self, logits: Tensor, targets: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        """The loss, a scalar of the logits' dtype.

        Args:
            logits: [rows, labels], or [rows, 1] for regression.
            targets: `label`, [samples] of ids or numbers, or [samples, labels] of 0 and 1;
                `weight`, [samples].
            rows: How many windows each sample has; None: one each.
        """
        losses_B = self._loss(_mean(logits, rows), targets["label"])
        return (losses_B * targets["weight"].to(losses_B.dtype)).sum()

    def output(self, logits: Tensor, targets: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        """The logits, one row a sample."""
        return _mean(logits, rows)

    def _cross_entropy(self, logits: Tensor, label_B: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits, label_B, reduction="none", label_smoothing=self._smoothing
        )


def _mean(logits: Tensor, rows: Tensor | None) -> Tensor:
    """The mean over each sample's windows: [rows, size] and [samples] give [samples, size]."""
    if rows is None:
        return logits
    # What is checked is the sum of the windows, for which a GPU would have to be waited for.
    unsafe = logits.device.type != "cpu"
    return torch.segment_reduce(logits, "mean", lengths=rows, axis=0, unsafe=unsafe)


def _binary_cross_entropy(logits: Tensor, labels_BL: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(
        logits, labels_BL.to(logits.dtype), reduction="none"
    ).sum(dim=-1)


def _squared_error(logits: Tensor, value_B: Tensor) -> Tensor:
    return (logits.squeeze(-1) - value_B.to(logits.dtype)).square()
