"""What both halves of the Transformer are made of, from the bottom up.

Positions, embedding, attention, feed-forward, residual, block. Section numbers are those of
"Attention Is All You Need" (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762). Two things are
newer: the layer norm may stand before each sublayer ("pre", Xiong et al. 2020,
https://arxiv.org/abs/2002.04745), which trains stably at higher rates, and positions may be
rotations (Su et al. 2021, https://arxiv.org/abs/2104.09864).

Shape suffixes: B batch, T tokens, S tokens that are looked at, P places, H hidden, N heads,
D = H / N, R = 2 × D, L tokens that there is room for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from nlpkit.dropout import Dropout, attention
from nlpkit.nn import Projection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nlpkit.contracts import Vocabulary
    from nlpkit_transformer.config import TransformerConfig


_ROOM = 64
"""Tokens that there is room for behind those that are remembered."""


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


def rotations(length: int, width: int) -> Tensor:
    """What `rotated` takes, [length, 2 × width]: cosines and signed sines of position × θᵢ.

    The θᵢ are those of the sinusoids. Su et al. pair the dimensions (2i, 2i + 1); which are a pair
    is free, since the weights before them are learned, and (i, i + D / 2) are swapped faster.
    """
    pairs_TD = sinusoids(length, width)
    sin_TI, cos_TI = pairs_TD[:, 0::2], pairs_TD[:, 1::2]
    return torch.cat([cos_TI, cos_TI, -sin_TI, sin_TI], dim=1)


def rotated(part_BNTD: Tensor, rotation_BTR: Tensor, width: int) -> Tensor:
    """Queries or keys turned by an angle for each position (Su et al. 2021, equation 34).

        x'(i)         = x(i) cos(position θᵢ) - x(i + D / 2) sin(position θᵢ)
        x'(i + D / 2) = x(i + D / 2) cos(position θᵢ) + x(i) sin(position θᵢ)

    Between a query turned by m θ and a key turned by n θ stands the angle (m - n) θ: attention sees
    how far away a token is, and not where.

    Args:
        part_BNTD: [batch, heads, tokens, D].
        rotation_BTR: Rows of `rotations`: [batch, tokens, 2 × D], or [tokens, 2 × D] for all.
        width: D; a graph that is traced has to know it as a number.
    """
    cos_B1TD, sin_B1TD = rotation_BTR.unsqueeze(-3).chunk(2, dim=-1)
    swapped_BNTD = part_BNTD.roll(width // 2, dims=-1)
    return part_BNTD * cos_B1TD + swapped_BNTD * sin_B1TD


class Embedding(nn.Module):
    """Token embedding × √H (section 3.4) plus position (section 3.5), then dropout (section 5.4).

    The table starts with a standard deviation of 1 / √H, so what leaves it scaled has about the
    size of the sinusoids: neither drowns the other. Rotary positions are not added: attention takes
    their `rotation`.
    """

    def __init__(self, vocabulary: Vocabulary, options: TransformerConfig) -> None:
        super().__init__()
        hidden, length = options.hidden, vocabulary.max_length
        self.scale = math.sqrt(hidden)
        self.tokens = nn.Embedding(vocabulary.size, hidden)
        nn.init.normal_(self.tokens.weight, std=1 / self.scale)
        self.rotary = options.positions == "rotary"
        self.positions: Tensor
        if options.positions == "learned":
            self.positions = nn.Parameter(torch.empty(length, hidden))
            nn.init.normal_(self.positions, std=1 / self.scale)
        else:
            width = 2 * hidden // options.heads if self.rotary else hidden
            empty_TW = torch.empty(length, width)  # seen before memory is in it
            self.register_buffer("positions", empty_TW, persistent=False)
            table = rotations(length, width // 2) if self.rotary else sinusoids(length, hidden)
            self.positions.copy_(table)
        self.dropout = Dropout(options.dropout)

    def forward(self, input_ids_BT: Tensor, positions_BT: Tensor | None = None) -> Tensor:
        """Ids [batch, tokens] to vectors [batch, tokens, hidden]; positions None: from 0 on."""
        hidden_BTH = self.tokens(input_ids_BT) * self.scale
        if not self.rotary:
            hidden_BTH = hidden_BTH + self._at(input_ids_BT, positions_BT)
        return cast("Tensor", self.dropout(hidden_BTH))

    def rotation(self, input_ids_BT: Tensor, positions_BT: Tensor | None = None) -> Tensor | None:
        """What `rotated` takes, where positions are rotary."""
        return self._at(input_ids_BT, positions_BT) if self.rotary else None

    def _at(self, input_ids_BT: Tensor, positions_BT: Tensor | None) -> Tensor:
        if positions_BT is None:
            return self.positions[: input_ids_BT.shape[1]]
        return self.positions[positions_BT]


class Output(nn.Module):
    """What the words of the vocabulary score, from one table of a row for each (section 3.4).

    It is the embedding's own table where that is tied (Press and Wolf 2017): a word is near to
    what is written where it would stand.
    """

    def __init__(self, embedding: Embedding, *, tied: bool) -> None:
        super().__init__()
        tokens = embedding.tokens.weight
        self.table = tokens if tied else nn.Parameter(torch.empty_like(tokens))
        if not tied:
            nn.init.normal_(self.table, std=0.02)

    def forward(self, hidden_BPH: Tensor) -> Projection:
        """[batch, places, hidden] to what gives logits [batch, places, vocabulary]."""
        return Projection(hidden_BPH, self.table)


@dataclass(frozen=True, kw_only=True)
class View:
    """What a token looks at, the same in each layer.

    Attributes:
        mask_BTS: True where it looks, [batch, 1 or tokens, looked at]; None: everywhere.
        causal: Whether it looks no further than its own place; without a mask.
        rotation_BTR: By which queries and keys are turned, where positions are rotary.
        source_B1S: True where it looks in a source text, [batch, 1, source tokens].
    """

    mask_BTS: Tensor | None = None
    causal: bool = False
    rotation_BTR: Tensor | None = None
    source_B1S: Tensor | None = None


@dataclass
class Memory:
    """Keys and values of a layer, of all tokens so far: what was computed once stays (a cache).

    Those of a source text are another one, to which nothing is added.
    """

    keys_BNSD: Tensor
    values_BNSD: Tensor

    def add(self, key_BNTD: Tensor, value_BNTD: Tensor) -> None:
        """Puts new tokens behind the others."""
        self.keys_BNSD = behind(self.keys_BNSD, key_BNTD)
        self.values_BNSD = behind(self.values_BNSD, value_BNTD)


@dataclass
class Room:
    """Space for tokens that follow others, and how much of it is used."""

    whole_BNLD: Tensor
    used: int


def behind(past_BNSD: Tensor, new_BNTD: Tensor) -> Tensor:
    """New tokens behind others, [batch, heads, S + T, D].

    In inference they are put into room that is behind the others since an earlier call, so that
    only each 64th token copies all before it. What is in use there is never written again.
    """
    if not torch.is_inference_mode_enabled() or past_BNSD.dtype != new_BNTD.dtype:
        return torch.cat([past_BNSD, new_BNTD], dim=2)
    before, after = past_BNSD.shape[2], past_BNSD.shape[2] + new_BNTD.shape[2]
    room: Room | None = getattr(past_BNSD, "room", None)  # a part or a copy of it has none
    if not room or room.used != before or room.whole_BNLD.shape[2] < after:
        batch, heads, _, width = past_BNSD.shape
        room = Room(past_BNSD.new_empty(batch, heads, after + _ROOM, width), used=after)
        room.whole_BNLD[:, :, :before] = past_BNSD
    room.whole_BNLD[:, :, before:after] = new_BNTD
    room.used = after
    found_BNSD = room.whole_BNLD[:, :, :after]
    found_BNSD.room = room  # type: ignore[attr-defined]
    return found_BNSD


class Heads(nn.Module):
    """Attention(Q, K, V) = softmax(QKᵀ / √D) V in N subspaces (section 3.2).

    A token asks (query), every token offers (key), and what matches is mixed (value). N heads do so
    side by side in D dimensions each, for the cost of one head in H.
    """

    out: nn.Linear

    def __init__(self, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout

    def mixed(
        self, query_BNTD: Tensor, memory: Memory, mask_BTS: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        """What each query finds among keys and values, [batch, tokens, hidden]."""
        mixed_BNTD = attention(
            query_BNTD,
            memory.keys_BNSD,
            memory.values_BNSD,
            None if mask_BTS is None else mask_BTS[:, None],
            causal=causal,
            dropout=self.dropout if self.training else 0.0,
        )
        return cast("Tensor", self.out(mixed_BNTD.transpose(1, 2).flatten(2)))

    def split(self, parts_BTH: Tensor, count: int) -> Iterator[Tensor]:
        """[batch, tokens, count × H] to each of the parts, [batch, heads, tokens, D]."""
        for part_BTH in parts_BTH.chunk(count, dim=-1):
            yield part_BTH.reshape(*part_BTH.shape[:2], self.heads, -1).transpose(1, 2)


class MultiHeadAttention(Heads):
    """The tokens of a text look at each other."""

    def __init__(self, hidden: int, heads: int, *, dropout: float) -> None:
        super().__init__(heads, dropout=dropout)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, hidden_BTH: Tensor, view: View, memory: Memory | None = None) -> Tensor:
        """Every token's mixture of those that it looks at; the shape stays.

        Earlier tokens are those of `memory`, which the new ones join.
        """
        query_BNTD, key_BNTD, value_BNTD = self.split(self.qkv(hidden_BTH), 3)
        if view.rotation_BTR is not None:
            width = self.qkv.in_features // self.heads
            query_BNTD = rotated(query_BNTD, view.rotation_BTR, width)
            key_BNTD = rotated(key_BNTD, view.rotation_BTR, width)
        if memory:
            memory.add(key_BNTD, value_BNTD)
        else:
            memory = Memory(key_BNTD, value_BNTD)
        return self.mixed(query_BNTD, memory, view.mask_BTS, causal=view.causal)


class CrossAttention(Heads):
    """What is written looks at the source text (section 3.2.3): queries of one, keys of the other.

    There are no rotations: how far a token of one text is from one of the other says nothing.
    """

    def __init__(self, hidden: int, heads: int, *, dropout: float) -> None:
        super().__init__(heads, dropout=dropout)
        self.query = nn.Linear(hidden, hidden)
        self.keys_and_values = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def memory(self, source_BSH: Tensor) -> Memory:
        """Keys and values of a source, which are the same for each token that is written."""
        return Memory(*self.split(self.keys_and_values(source_BSH), 2))

    def forward(self, hidden_BTH: Tensor, view: View, memory: Memory) -> Tensor:
        """Every token's mixture of the source; the shape stays."""
        (query_BNTD,) = self.split(self.query(hidden_BTH), 1)
        return self.mixed(query_BNTD, memory, view.source_B1S)


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


class Block(nn.Module):
    """Tokens look at each other, then each thinks for itself (section 3.1).

    In the decoder of a source text they look at that in between (`cross`).
    """

    def __init__(self, options: TransformerConfig, *, cross: bool = False) -> None:
        super().__init__()
        hidden, dropout = options.hidden, options.dropout
        self.attention = MultiHeadAttention(hidden, options.heads, dropout=dropout)
        self.attention_residual = Residual(hidden, norm=options.norm, dropout=dropout)
        if cross:
            self.cross_attention = CrossAttention(hidden, options.heads, dropout=dropout)
            self.cross_residual = Residual(hidden, norm=options.norm, dropout=dropout)
        inner = options.feed_forward or 4 * hidden
        self.feed_forward = FeedForward(hidden, inner, dropout=dropout)
        self.feed_forward_residual = Residual(hidden, norm=options.norm, dropout=dropout)

    def forward(
        self,
        hidden_BTH: Tensor,
        view: View,
        memory: Memory | None = None,
        source: Memory | None = None,
    ) -> Tensor:
        """[batch, tokens, hidden] to the same shape."""
        hidden_BTH = self.attention_residual(
            hidden_BTH, lambda each_BTH: self.attention(each_BTH, view, memory)
        )
        if source:
            hidden_BTH = self.cross_residual(
                hidden_BTH, lambda each_BTH: self.cross_attention(each_BTH, view, source)
            )
        return cast("Tensor", self.feed_forward_residual(hidden_BTH, self.feed_forward))


def start(stack: nn.Module) -> None:
    """Random weights that keep the variance in both directions (Glorot and Bengio 2010)."""
    for module in stack.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


def at_places(places_BP: Tensor, hidden_BTH: Tensor) -> Tensor:
    """The hidden states at some places of each row, [batch, places, hidden]."""
    return hidden_BTH.gather(1, places_BP[:, :, None].expand(-1, -1, hidden_BTH.shape[2]))
