"""The loss of tasks that tell tokens of the vocabulary, summed over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from nlpkit_tasks.inputs import IGNORED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class VocabularyObjective:
    """Cross-entropy of the tokens that are targets, summed."""

    def __init__(self, options: Any, schema: Mapping[str, Any]) -> None:
        pass

    def total(self, logits: Tensor, targets: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: [rows, places, vocabulary].
            targets: `ids`, [rows, places]; -100 for a place that has no target.
            rows: None: each sample is a row.
        """
        return _nats(logits, targets["ids"]).sum()

    def output(self, logits: Tensor, targets: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        """For each place the nats of its target, and 1 where that is the likeliest: [..., 2]."""
        nats = _nats(logits, targets["ids"])
        right = logits.argmax(dim=-1) == targets["ids"]
        return torch.stack([nats, right.to(nats.dtype)], dim=-1)


def _nats(logits: Tensor, ids: Tensor) -> Tensor:
    """[rows, places]; 0 where there is no target."""
    flat = logits.flatten(0, 1), ids.flatten()
    losses = functional.cross_entropy(*flat, ignore_index=IGNORED, reduction="none")
    return losses.view(ids.shape)
