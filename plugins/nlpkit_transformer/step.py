"""A decoder that writes token by token: what it computed of a text stays (a cache).

Shape suffixes: B batch, T tokens, S tokens before and now, or those of a source text, N heads,
D = hidden / N, H hidden, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from nlpkit.contracts import Graph, GraphSpec
from nlpkit_transformer.decoder import earlier
from nlpkit_transformer.layers import Memory, View, at_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlpkit.contracts import Axes
    from nlpkit_transformer.decoder import Decoder
    from nlpkit_transformer.layers import Block, Embedding, Output


class Writes(Protocol):
    """What has a decoder."""

    embedding: Embedding
    decoder: Decoder
    output: Output


class Step(nn.Module):
    """A writer that goes on from what it remembers, so that no token passes it twice.

    Positions are counted by the mask, so padding may stand on either side, and between old tokens
    and new ones.

    Args:
        writer: Has the decoder.
        cross: Whether that looks at a source text.
    """

    def __init__(self, writer: Writes, *, cross: bool = False) -> None:
        super().__init__()
        self.writer, self.cross = writer, cross

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, *pasts: Tensor
    ) -> tuple[Tensor, ...]:
        """What follows the last real token of each row, and keys and values of all so far.

        Args:
            input_ids: New tokens, [batch, tokens].
            attention_mask: 1 at real tokens, of those before and the new ones, [batch, S].
            pasts: Keys and values of each layer in turn, [batch, heads, before, D]. With a source
                text first its mask, [batch, S], and its keys and values of each layer.

        Returns:
            Logits [batch, 1, vocabulary], then keys and values with the new tokens.
        """
        source_B1S, sources = None, list[Memory]()
        if self.cross:
            source_B1S, half = pasts[0].bool()[:, None], len(pasts) // 2 + 1
            sources, pasts = _memories(pasts[1:half]), pasts[half:]
        embedding, past = self.writer.embedding, pasts[0].shape[2]
        real_BS = attention_mask.bool()
        positions_BT = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, past:]
        memories = _memories(pasts)
        view = View(
            mask_BTS=earlier(real_BS, past),
            rotation_BTR=embedding.rotation(input_ids, positions_BT),
            source_B1S=source_B1S,
        )
        hidden_BTH = self.writer.decoder(
            embedding(input_ids, positions_BT), view, memories, sources
        )
        last_B = (attention_mask[:, past:] * torch.ones_like(input_ids).cumsum(dim=1)).argmax(dim=1)
        logits_B1V = self.writer.output(at_places(last_B[:, None], hidden_BTH)).logits()
        return (logits_B1V, *tensors_of(memories))

    def graph(self) -> Graph:
        """The graph of a step, whose pasts have no token in the first one."""
        inputs: dict[str, Axes] = {
            "input_ids": ("rows", "tokens"),
            "attention_mask": ("rows", "present"),
        }
        if self.cross:
            inputs |= {"past_source_mask": ("rows", "source")}
            inputs |= kept(self.writer, "past_source", "source")
        inputs |= kept(self.writer, "past", "past")
        outputs: dict[str, Axes] = {"logits": ("rows", 1, len(self.writer.output.table))}
        outputs |= kept(self.writer, "present", "present")
        return Graph(module=self, spec=GraphSpec(inputs=inputs, outputs=outputs))


def kept(writer: Writes, name: str, axis: str) -> dict[str, Axes]:
    """Names and axes of the keys and values that each layer of a decoder looks at."""
    layers, hidden = writer.decoder.layers, writer.embedding.tokens.embedding_dim
    heads = cast("Block", layers[0]).attention.heads
    axes: Axes = ("rows", heads, axis, hidden // heads)
    both = ("keys", "values")
    return {f"{name}_{each}_{layer}": axes for layer in range(len(layers)) for each in both}


def tensors_of(memories: Sequence[Memory]) -> list[Tensor]:
    """Keys and values of each layer in turn."""
    return [each for memory in memories for each in (memory.keys_BNSD, memory.values_BNSD)]


def _memories(tensors: Sequence[Tensor]) -> list[Memory]:
    return [Memory(*both) for both in zip(tensors[::2], tensors[1::2], strict=True)]
