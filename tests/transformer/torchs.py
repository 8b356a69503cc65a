"""torch.nn's own Transformer, of the sizes and with the weights of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def stack_of(stack: Any, *, dropout: float = 0.0) -> Any:
    """torch's encoder or decoder, whose decoders always look at a source, for one of ours."""
    block = stack.layers[0]
    cross, pre = hasattr(block, "cross_attention"), block.attention_residual.before
    inner, hidden = block.feed_forward[0].weight.shape
    kinds: Any = nn.TransformerEncoder, nn.TransformerEncoderLayer
    if cross:
        kinds = nn.TransformerDecoder, nn.TransformerDecoderLayer
    options = {"dropout": dropout, "batch_first": True, "norm_first": pre}
    layer = kinds[1](hidden, block.attention.heads, inner, **options)
    last = nn.LayerNorm(hidden) if pre else None
    options = {} if cross else {"enable_nested_tensor": False}
    torchs = kinds[0](layer, len(stack.layers), last, **options).to(block.attention.out.weight)
    fill(stack, torchs)
    return torchs.train()  # no fused fast path


def transformer_of(model: Any, *, dropout: float = 0.0) -> nn.Transformer:
    """The same of an encoder and a decoder together."""
    mine, heads = (model.encoder, model.decoder), model.encoder.layers[0].attention.heads
    encoder, decoder = (stack_of(each, dropout=dropout) for each in mine)
    stacks = {"custom_encoder": encoder, "custom_decoder": decoder}
    hidden = model.embedding.tokens.embedding_dim
    torchs = nn.Transformer(hidden, heads, batch_first=True, **stacks)
    for each, theirs in zip(mine, (torchs.encoder, torchs.decoder), strict=True):
        fill(each, theirs)  # it has begun them anew
    return torchs


def fill(mine: Any, theirs: Any) -> None:
    """Gives their stack the weights of ours."""
    for parameter, ours in counterparts(mine, theirs):
        parameter.data.copy_(torch.cat(ours))


def counterparts(mine: Any, theirs: Any) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Each parameter of their stack, and those of ours that it holds one after the other."""
    for own, other in zip(mine.layers, theirs.layers, strict=True):
        yield from _attention(other.self_attn, own.attention.out, own.attention.qkv)
        residuals = [own.attention_residual, own.feed_forward_residual]
        if hasattr(own, "cross_attention"):
            cross, parts = own.cross_attention, ("query", "keys_and_values")
            whole = (getattr(cross, part) for part in parts)
            yield from _attention(other.multihead_attn, cross.out, *whole)
            residuals.insert(1, own.cross_residual)
        yield from _alike(other.linear1, own.feed_forward[0])
        yield from _alike(other.linear2, own.feed_forward[3])
        for at, residual in enumerate(residuals, 1):
            yield from _alike(getattr(other, f"norm{at}"), residual.norm)
    if theirs.norm is not None:
        yield from _alike(theirs.norm, mine.norm)


def _attention(other: Any, out: Any, *parts: Any) -> Iterator[tuple[Tensor, list[Tensor]]]:
    yield other.in_proj_weight, [each.weight for each in parts]
    yield other.in_proj_bias, [each.bias for each in parts]
    yield from _alike(other.out_proj, out)


def _alike(other: Any, own: Any) -> Iterator[tuple[Tensor, list[Tensor]]]:
    yield other.weight, [own.weight]
    yield other.bias, [own.bias]
