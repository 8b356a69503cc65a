"""Attention with dropout on a CPU, where torch has no fused kernel of it.

torch writes all scores to memory several times. Here a few heads at a time stay in the cache. The
gradient of the softmax takes its row sums from the output (Dao et al. 2022, "FlashAttention",
appendix B.4).

May go when `scaled_dot_product_attention` has a fused kernel with dropout for a CPU.

Shape suffixes: B batch, N heads, T queries, S keys, D = hidden / N, R = B × N.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nlpkit.cpu.dropout import Masks, is_fast

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 19
"""Scores of attention that are worked on at a time: 2 MB, so that a cache holds them."""


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    dropout: float,
    scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    """softmax(QKᵀ × scale) V, with dropout of the softmax.

    Args:
        query: [batch, heads, queries, D].
        key: [batch, heads, keys, D].
        value: As the keys.
        mask: True where a key is looked at, [batch or 1, 1, 1 or queries, keys].
        dropout: The rate; 0 outside of training.
        scale: 1 / √D if None.
        causal: Whether a query looks at no later key than its own, of as many; without a mask.

    Returns:
        [batch, heads, queries, D].
    """
    if not is_fast(query, dropout):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale
        )
    if causal:
        mask = torch.ones(1, 1, query.shape[2], key.shape[2], dtype=torch.bool).tril()
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    found = _Attention.apply(query, key, value, mask, dropout, scale)  # type: ignore[no-untyped-call]
    return cast("Tensor", found)


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
        masks = Masks(rate)
        ctx.rate, ctx.scale, ctx.seed = rate, scale, masks.seed
        query_RTD, key_RSD, value_RSD = (_by_head(part) for part in (query, key, value))
        bias = None if mask is None or bool(mask.all()) else _bias(mask, query_RTD)
        query_RTD = query_RTD * scale
        weights_RTS = query_RTD.new_empty(*query_RTD.shape[:2], key_RSD.shape[1])
        output_RTD = torch.empty_like(query_RTD)
        for rows, buffer, _ in _blocks(weights_RTS):
            torch.bmm(query_RTD[rows], key_RSD[rows].mT, out=buffer)
            if bias is not None:
                buffer += bias[torch.arange(rows.start, rows.stop) // query.shape[1] % len(bias)]
            torch.softmax(buffer, -1, out=weights_RTS[rows])
            masks.fill(buffer).mul_(weights_RTS[rows])
            torch.bmm(buffer, value_RSD[rows], out=output_RTD[rows])
        output_RTD *= masks.scale
        ctx.save_for_backward(query_RTD, key_RSD, value_RSD, weights_RTS, output_RTD)
        return output_RTD.view(query.shape).to(query.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query_RTD, key_RSD, value_RSD, weights_RTS, output_RTD = ctx.saved_tensors
        gradient_RTD = _by_head(gradient)
        sums_RT1 = (gradient_RTD * output_RTD).sum(dim=-1, keepdim=True)
        masks = Masks(ctx.rate, ctx.seed)
        gradient_RTD = gradient_RTD * masks.scale
        to_query, to_key, to_value = (
            torch.empty_like(part) for part in (query_RTD, key_RSD, value_RSD)
        )
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
