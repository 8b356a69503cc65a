"""The decoder (section 3.1): no token looks ahead, so each place can learn what comes next.

It has no source text here, and so no third sublayer between the two of a block.

Shape suffixes: B batch, T tokens, S tokens that are looked at (earlier ones and T), H hidden.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from nlpkit_transformer.layers import Block, start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlpkit_transformer.config import TransformerConfig
    from nlpkit_transformer.layers import Memory, View


def earlier(real_BS: Tensor, past: int) -> Tensor:
    """True where the tokens after `past` look: at real ones up to their own place.

    Padding looks at itself at least, so that its numbers are finite.

    Args:
        real_BS: True at real tokens, [batch, tokens before and now].
        past: How many were before.

    Returns:
        [batch, tokens now, tokens before and now].
    """
    places_S = torch.ones_like(real_BS[0]).cumsum(dim=0)
    places_TS, own_T1 = places_S[None], places_S[past:, None]
    return (places_TS < own_T1) & real_BS[:, None] | (places_TS == own_T1)


def earlier_in_document(document_ids_BT: Tensor) -> Tensor:
    """True where the tokens of packed rows look: no further than themselves, in their document."""
    same_BTS = document_ids_BT[:, :, None] == document_ids_BT[:, None]
    return same_BTS.tril()


class Decoder(nn.Module):
    """A stack of blocks (section 3.1); with "pre" a last norm, since no block normed its sum."""

    def __init__(self, options: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.norm = nn.LayerNorm(options.hidden) if options.norm == "pre" else nn.Identity()
        start(self)

    def forward(
        self, hidden_BTH: Tensor, view: View, memories: Sequence[Memory] | None = None
    ) -> Tensor:
        """[batch, tokens, hidden] to the same shape; each layer has its own memory."""
        for layer, memory in zip(self.layers, memories or repeat(None), strict=False):
            hidden_BTH = layer(hidden_BTH, view, memory)
        return cast("Tensor", self.norm(hidden_BTH))
