"""The encoder (section 3.1): every token looks at the whole text.

Shape suffixes: B batch, T tokens, S tokens that are looked at, H hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from nlpkit_transformer.layers import Block, start

if TYPE_CHECKING:
    from nlpkit_transformer.config import TransformerConfig
    from nlpkit_transformer.layers import View


def whole_text(mask_BT: Tensor, document_ids_BT: Tensor | None) -> Tensor:
    """True where a token looks: [batch, 1, tokens], or [batch, tokens, tokens] for packed rows.

    That is at the real tokens, whose mask is 1; in a packed row at those of its own document.
    """
    if document_ids_BT is None:
        return mask_BT.bool()[:, None]
    return document_ids_BT[:, :, None] == document_ids_BT[:, None]


class Encoder(nn.Module):
    """A stack of blocks (section 3.1); with "pre" a last norm, since no block normed its sum."""

    def __init__(self, options: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.norm = nn.LayerNorm(options.hidden) if options.norm == "pre" else nn.Identity()
        start(self)

    def forward(self, hidden_BTH: Tensor, view: View) -> Tensor:
        """[batch, tokens, hidden] to the same shape."""
        for layer in self.layers:
            hidden_BTH = layer(hidden_BTH, view)
        return cast("Tensor", self.norm(hidden_BTH))
