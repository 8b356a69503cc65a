"""Dropout on a CPU: torch takes ten times as long for a mask, and has no attention with dropout.

A mask is 16 random bits an element, compared with the rate: a rate is right to 1 / 65,536. Bits are
those of SFC64 (Doty-Humphrey's, as numpy has it) with a seed that torch's generator gives, so
`torch.manual_seed` decides about them too.

Shape suffixes: B batch, N heads, T queries, S keys, D = hidden / N, R = B × N.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEVELS = 1 << 16
_BLOCK = 1 << 19
"""Scores of attention that are worked on at a time: 2 MB, so that a cache holds them."""


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, with a faster mask on a CPU: random numbers of its own."""

    def forward(self, input: Tensor) -> Tensor:
        """Zeros with probability `p`, the rest times 1 / (1 - p), in training; any shape."""
        if not self.training or not _fast(input, self.p):
            return super().forward(input)
        return cast("Tensor", _Dropout.apply(input, self.p))  # type: ignore[no-untyped-call]


def use_fast_dropout(module: nn.Module) -> None:
    """Puts `Dropout` in the place of every `torch.nn.Dropout` inside a module."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    dropout: float,
    scale: float | None = None,
) -> Tensor:
    """softmax(QKᵀ × scale) V, with dropout of the softmax.

    With dropout, torch has no fused kernel for a CPU: it writes all scores to memory several times.
    Here a few heads at a time stay in the cache. The gradient of the softmax takes its row sums
    from the output (Dao et al. 2022, "FlashAttention", appendix B.4).

    Args:
        query: [batch, heads, queries, D].
        key: [batch, heads, keys, D].
        value: As the keys.
        mask: True where a key is looked at, [batch, 1, 1 or queries, keys].
        dropout: The rate; 0 outside of training.
        scale: 1 / √D if None.

    Returns:
        [batch, heads, queries, D].
    """
    if not _fast(query, dropout):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    found = _Attention.apply(query, key, value, mask, dropout, scale)  # type: ignore[no-untyped-call]
    return cast("Tensor", found)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        bits = _Masks(rate).bits(values.numel()).view(values.shape)
        ctx.rate = rate
        ctx.save_for_backward(bits)
        return _dropped(values, bits, rate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (bits,) = ctx.saved_tensors
        return _dropped(gradient, bits, ctx.rate), None


def _dropped(values: Tensor, bits: Tensor, rate: float) -> Tensor:
    kept = torch.empty_like(values, memory_format=torch.contiguous_format).copy_(bits)
    return kept.mul_(values).mul_(_scale(rate))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        rate: float,
        scale: float,
    ) -> Tensor:
        masks = _Masks(rate)
        ctx.rate, ctx.scale, ctx.seed = rate, scale, masks.seed
        query_RTD, key_RSD, value_RSD = (_by_head(part) for part in (query, key, value))
        bias = None if mask is None or bool(mask.all()) else _bias(mask, query_RTD)
        query_RTD = query_RTD * scale
        weights_RTS = query_RTD.new_empty(*query_RTD.shape[:2], key_RSD.shape[1])
        output_RTD = torch.empty_like(query_RTD)
        for rows, buffer, _ in _blocks(weights_RTS):
            torch.bmm(query_RTD[rows], key_RSD[rows].mT, out=buffer)
            if bias is not None:
                buffer += bias[torch.arange(rows.start, rows.stop) // query.shape[1]]
            torch.softmax(buffer, -1, out=weights_RTS[rows])
            masks.fill(buffer).mul_(weights_RTS[rows])
            torch.bmm(buffer, value_RSD[rows], out=output_RTD[rows])
        output_RTD *= _scale(rate)
        ctx.save_for_backward(query_RTD, key_RSD, value_RSD, weights_RTS, output_RTD)
        return output_RTD.view(query.shape).to(query.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query_RTD, key_RSD, value_RSD, weights_RTS, output_RTD = ctx.saved_tensors
        gradient_RTD = _by_head(gradient)
        sums_RT1 = (gradient_RTD * output_RTD).sum(dim=-1, keepdim=True)
        gradient_RTD = gradient_RTD * _scale(ctx.rate)
        to_query, to_key, to_value = (
            torch.empty_like(part) for part in (query_RTD, key_RSD, value_RSD)
        )
        masks = _Masks(ctx.rate, ctx.seed)
        for rows, mask, buffer in _blocks(weights_RTS):
            masks.fill(mask)
            torch.mul(mask, weights_RTS[rows], out=buffer)
            torch.bmm(buffer.mT, gradient_RTD[rows], out=to_value[rows])
            torch.bmm(gradient_RTD[rows], value_RSD[rows].mT, out=buffer)
            buffer.mul_(mask).sub_(sums_RT1[rows]).mul_(weights_RTS[rows])
            torch.bmm(buffer, key_RSD[rows], out=to_query[rows])
            torch.bmm(buffer.mT, query_RTD[rows], out=to_key[rows])
        to_query *= ctx.scale
        batch_heads = gradient.shape[:2]
        gradients = (
            part.view(*batch_heads, *part.shape[1:]).to(gradient.dtype)
            for part in (to_query, to_key, to_value)
        )
        return (*gradients, None, None, None)


class _Masks:
    """Masks, one after the other: 0 with the probability `rate`, else 1.

    Args:
        rate: Of what is dropped.
        seed: None: one that torch's generator gives.
    """

    def __init__(self, rate: float, seed: int | None = None) -> None:
        self.seed = int(torch.empty((), dtype=torch.int64).random_()) if seed is None else seed
        self._generator = np.random.SFC64(self.seed)
        self._least = _dropped_levels(rate) - _LEVELS // 2

    def bits(self, count: int) -> Tensor:
        """The next `count` elements, int16."""
        words = self._generator.random_raw(math.ceil(count / 4))
        return torch.from_numpy(words.view(np.int16))[:count].ge_(self._least)

    def fill(self, mask: Tensor) -> Tensor:
        """Fills `mask` with the next ones."""
        return mask.copy_(self.bits(mask.numel()).view(mask.shape))


def _fast(values: Tensor, rate: float) -> bool:
    """Whether the masks here are for such values."""
    return values.device.type == "cpu" and 0 < _dropped_levels(rate) < _LEVELS


def _dropped_levels(rate: float) -> int:
    return round(rate * _LEVELS)


def _scale(rate: float) -> float:
    """What keeps the mean, for the rate as it is rounded."""
    return _LEVELS / (_LEVELS - _dropped_levels(rate))


def _by_head(part: Tensor) -> Tensor:
    """[B, N, T, D] as contiguous [B × N, T, D], in float32 at least."""
    wide = part if part.dtype == torch.float64 else part.float()
    return wide.flatten(0, 1).contiguous()


def _bias(mask: Tensor, like: Tensor) -> Tensor:
    """0 where a key is looked at, else next to -inf: [batch, 1 or queries, keys].

    A query that sees no key, of a text without a token, so has a softmax that is a number.
    """
    least = torch.finfo(like.dtype).min
    return torch.zeros(mask.shape, dtype=like.dtype).masked_fill_(~mask, least).squeeze(1)


def _blocks(weights_RTS: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The heads in pieces, each with two buffers for its scores."""
    heads = len(weights_RTS)
    size = min(heads, max(1, _BLOCK // max(1, weights_RTS[0].numel())))
    buffers = [weights_RTS.new_empty(size, *weights_RTS.shape[1:]) for _ in range(2)]
    for start in range(0, heads, size):
        rows = slice(start, min(heads, start + size))
        first, second = (buffer[: rows.stop - start] for buffer in buffers)
        yield rows, first, second
