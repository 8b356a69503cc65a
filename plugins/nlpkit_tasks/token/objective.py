"""The loss of the task `token`, summed over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from nlpkit_tasks.token.config import TokenConfig


class TokenObjective:
    """Cross-entropy of the tokens that stand for words, summed."""

    def __init__(self, options: TokenConfig, schema: Mapping[str, Any]) -> None:
        pass

    def total(self, logits: Tensor, targets: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        """The loss, a scalar of the logits' dtype.

        Args:
            logits: [rows, tokens, tags].
            targets: `labels`, [rows, tokens] of ids; -100 for a token that stands for no word.
            rows: How many windows each sample has: no matter here, a word counts in one of them.
        """
        flat = logits.flatten(0, 1), targets["labels"].flatten()
        return functional.cross_entropy(*flat, ignore_index=-100, reduction="sum")

    def output(self, logits: Tensor, targets: Mapping[str, Tensor], rows: Tensor | None) -> Tensor:
        """The logits."""
        return logits
