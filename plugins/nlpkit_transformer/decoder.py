"""The decoder (section 3.1): no token looks ahead, so each place can learn what comes next.

Where it writes by a source text, each block looks at that too.

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

    def __init__(self, options: TransformerConfig, *, cross: bool = False) -> None:
        super().__init__()
        layers = (options.decoder_layers if cross else None) or options.layers
        self.layers = nn.ModuleList(Block(options, cross=cross) for _ in range(layers))
        self.norm = nn.LayerNorm(options.hidden) if options.norm == "pre" else nn.Identity()
        start(self)

    def sources(self, source_BSH: Tensor) -> list[Memory]:
        """What each layer takes from a source text, once for all that is written by it."""
        return [cast("Block", layer).cross_attention.memory(source_BSH) for layer in self.layers]

    def forward(
        self,
        hidden_BTH: Tensor,
        view: View,
        memories: Sequence[Memory] | None = None,
        sources: Sequence[Memory] | None = None,
    ) -> Tensor:
        """[batch, tokens, hidden] to the same shape; each layer has its own memory and source."""
        for layer, memory, source in zip(
            self.layers, memories or repeat(None), sources or repeat(None), strict=False
        ):
            hidden_BTH = layer(hidden_BTH, view, memory, source)
        return cast("Tensor", self.norm(hidden_BTH))
