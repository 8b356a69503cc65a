"""The encoder of "Attention Is All You Need" (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

Read from top to bottom: positions, embedding, attention, feed-forward, residual, block, encoder.
Section numbers are the paper's. One thing is newer than the paper: the layer norm may stand before
each sublayer ("pre", Xiong et al. 2020, https://arxiv.org/abs/2002.04745), which trains stably at
higher rates.

Shape suffixes: B batch, T tokens, H hidden, N heads, D = H / N.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from nlpkit.dropout import Dropout, attention
from nlpkit.nn import Head

if TYPE_CHECKING:
    from collections.abc import Callable

    from nlpkit.contracts import HeadSpec, Vocabulary
    from nlpkit_transformer.config import TransformerConfig


def sinusoids(length: int, hidden: int) -> Tensor:
    """Positional encoding without parameters (section 3.5), of shape [length, hidden].

        PE(position, 2i)     = sin(position / 10000^(2i / hidden))
        PE(position, 2i + 1) = cos(position / 10000^(2i / hidden))

    A shift by k tokens rotates each pair (2i, 2i + 1) by the same angle at every position. That is
    a linear map, so attention can learn to look k tokens away.
    """
    position_T1 = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    even_I = torch.arange(0, hidden, 2, dtype=torch.float64)
    angle_TI = position_T1 / 10000 ** (even_I / hidden)
    pairs_TI2 = torch.stack([angle_TI.sin(), angle_TI.cos()], dim=-1)
    return pairs_TI2.flatten(1)[:, :hidden].to(torch.get_default_dtype())


class Embedding(nn.Module):
    """Token embedding × √H (section 3.4) plus position (section 3.5), then dropout (section 5.4).

    The table starts with a standard deviation of 1 / √H, so what leaves it scaled has about the
    size of the sinusoids: neither drowns the other.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        hidden: int,
        *,
        positions: Literal["sinusoidal", "learned"],
        dropout: float,
    ) -> None:
        super().__init__()
        self.scale = math.sqrt(hidden)
        self.tokens = nn.Embedding(vocabulary.size, hidden)
        nn.init.normal_(self.tokens.weight, std=1 / self.scale)
        self.positions: Tensor
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty(vocabulary.max_length, hidden))
            nn.init.normal_(self.positions, std=1 / self.scale)
        else:
            empty_TH = torch.empty(vocabulary.max_length, hidden)  # seen before memory is in it
            self.register_buffer("positions", empty_TH, persistent=False)
            self.positions.copy_(sinusoids(vocabulary.max_length, hidden))
        self.dropout = Dropout(dropout)

    def forward(self, input_ids_BT: Tensor) -> Tensor:
        """Ids [batch, tokens] to vectors [batch, tokens, hidden]."""
        tokens_BTH = self.tokens(input_ids_BT) * self.scale
        positions_TH = self.positions[: input_ids_BT.shape[1]]
        return cast("Tensor", self.dropout(tokens_BTH + positions_TH))


class MultiHeadAttention(nn.Module):
    """Attention(Q, K, V) = softmax(QKᵀ / √D) V in N subspaces (section 3.2).

    Each token asks (query), every token offers (key), and what matches is mixed (value). N heads do
    so side by side in D dimensions each, for the cost of one head in H.

    Shapes: hidden_BTH [batch, tokens, hidden]; mask_BT, true where a token is real; returns
    [batch, tokens, hidden].
    """

    def __init__(self, hidden: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, hidden_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        """Every token's mixture of the real tokens; padding is never looked at."""
        parts = self.qkv(hidden_BTH).chunk(3, dim=-1)
        query_BNTD, key_BNTD, value_BNTD = (self._split(part_BTH) for part_BTH in parts)
        mixed_BNTD = attention(
            query_BNTD,
            key_BNTD,
            value_BNTD,
            mask_BT[:, None, None, :],
            dropout=self.dropout if self.training else 0.0,
        )
        return cast("Tensor", self.out(self._join(mixed_BNTD)))

    def _split(self, part_BTH: Tensor) -> Tensor:
        return part_BTH.reshape(*part_BTH.shape[:2], self.heads, -1).transpose(1, 2)

    def _join(self, part_BNTD: Tensor) -> Tensor:
        return part_BNTD.transpose(1, 2).flatten(2)


class FeedForward(nn.Sequential):
    """FFN(x) = max(0, x W₁ + b₁) W₂ + b₂, for each token alone (section 3.3).

    The ReLU, max(0, ·), is the paper's, so formula and code are the same; BERT put a GELU there.
    """

    def __init__(self, hidden: int, inner: int, *, dropout: float) -> None:
        super().__init__(
            nn.Linear(hidden, inner), nn.ReLU(), Dropout(dropout), nn.Linear(inner, hidden)
        )


class Residual(nn.Module):
    """A sublayer with a way round it: it learns a correction, and gradients reach every depth.

        post  LayerNorm(x + Dropout(Sublayer(x)))      (sections 3.1 and 5.4)
        pre   x + Dropout(Sublayer(LayerNorm(x)))      (Xiong et al. 2020, figure 1)

    With "pre" nothing stands in the way from the last block to the first: no long warm-up needed.
    """

    def __init__(self, hidden: int, *, norm: Literal["pre", "post"], dropout: float) -> None:
        super().__init__()
        self.before = norm == "pre"
        self.norm = nn.LayerNorm(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, hidden_BTH: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Adds what the sublayer says to `hidden_BTH`; the shape stays."""
        if self.before:
            return hidden_BTH + cast("Tensor", self.dropout(sublayer(self.norm(hidden_BTH))))
        return cast("Tensor", self.norm(hidden_BTH + self.dropout(sublayer(hidden_BTH))))


class EncoderLayer(nn.Module):
    """One block: tokens look at each other, then each thinks for itself (section 3.1)."""

    def __init__(self, options: TransformerConfig) -> None:
        super().__init__()
        hidden, dropout = options.hidden, options.dropout
        self.attention = MultiHeadAttention(hidden, options.heads, dropout=dropout)
        self.attention_residual = Residual(hidden, norm=options.norm, dropout=dropout)
        inner = options.feed_forward or 4 * hidden
        self.feed_forward = FeedForward(hidden, inner, dropout=dropout)
        self.feed_forward_residual = Residual(hidden, norm=options.norm, dropout=dropout)

    def forward(self, hidden_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        """[batch, tokens, hidden] to the same shape."""
        hidden_BTH = self.attention_residual(
            hidden_BTH, lambda each_BTH: self.attention(each_BTH, mask_BT)
        )
        return cast("Tensor", self.feed_forward_residual(hidden_BTH, self.feed_forward))


class Encoder(nn.Module):
    """A stack of blocks (section 3.1); with "pre" a last norm, since no block normed its sum."""

    def __init__(self, options: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(options) for _ in range(options.layers))
        self.norm = nn.LayerNorm(options.hidden) if options.norm == "pre" else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Linear):  # keeps the variance in both directions (Glorot 2010)
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, hidden_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        """[batch, tokens, hidden] to the same shape."""
        for layer in self.layers:
            hidden_BTH = layer(hidden_BTH, mask_BT)
        return cast("Tensor", self.norm(hidden_BTH))


class Transformer(nn.Module):
    """Embedding, encoder, head: token ids to logits."""

    inputs = ("input_ids", "attention_mask")

    def __init__(self, options: TransformerConfig, head: HeadSpec, vocabulary: Vocabulary) -> None:
        super().__init__()
        hidden, dropout = options.hidden, options.dropout
        self.embedding = Embedding(vocabulary, hidden, positions=options.positions, dropout=dropout)
        self.encoder = Encoder(options)
        self.head = Head(hidden, head, pooling=options.pooling, dropout=dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of int64 ids [batch, tokens]; the mask, of the same shape, is 1 at real tokens."""
        mask_BT = attention_mask.bool()
        hidden_BTH = self.encoder(self.embedding(input_ids), mask_BT)
        return cast("Tensor", self.head(hidden_BTH, mask_BT))


def build(
    options: TransformerConfig, head: HeadSpec, vocabulary: Vocabulary, *, weights: bool
) -> Transformer:
    """The model with random weights: it has no others, so `weights` changes nothing."""
    return Transformer(options, head, vocabulary)
