"""The Transformer as a model: a reader or a writer, by what the task wants of it.

A reader is an encoder: it sees a whole text and says something of it, of each token, or of the
tokens that were hidden. A writer is a decoder: of each token it sees what came before, and says
what comes next. layers.py has what both are made of; section numbers are the paper's.

Shape suffixes: B batch, T tokens, S tokens before and now, P places, H hidden, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from nlpkit.contracts import Graph, GraphSpec
from nlpkit.nn import Head, Projection
from nlpkit_transformer.decoder import Decoder, earlier, earlier_in_document
from nlpkit_transformer.encoder import Encoder, whole_text
from nlpkit_transformer.layers import Embedding, Memory, View
from nlpkit_transformer.pretrained import load

if TYPE_CHECKING:
    from nlpkit.contracts import Axes, HeadSpec, Vocabulary
    from nlpkit_transformer.config import TransformerConfig


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


class Reader(nn.Module):
    """Embedding, encoder, and a head or an output: token ids to logits."""

    notes: tuple[str, ...] = ()

    def __init__(self, options: TransformerConfig, head: HeadSpec, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.inputs: tuple[str, ...] = ("input_ids", "attention_mask")
        self.embedding = Embedding(vocabulary, options)
        self.encoder = Encoder(options)
        if head.level == "vocabulary":
            self.inputs += (head.over,)
            self.output = Output(self.embedding, tied=options.tied)
        else:
            dropout, pooling = options.dropout, options.pooling
            self.head = Head(options.hidden, head, pooling=pooling, dropout=dropout)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        masked: Tensor | None = None,
        *,
        document_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor | Projection:
        """What the level is of: a text, its tokens, or the words at some places.

        Args:
            input_ids: [batch, tokens], int64.
            attention_mask: 1 at real tokens, [batch, tokens].
            masked: Which places words are wanted for, [batch, places].
            document_ids: In packed rows the number of a token's document, from 1 on; 0 at padding.
            position_ids: In packed rows the place of a token in its document, from 0 on.
        """
        hidden_BTH = self.embedding(input_ids, position_ids)
        view = View(
            mask_BTS=whole_text(attention_mask, document_ids),
            rotation_BTR=self.embedding.rotation(input_ids, position_ids),
        )
        hidden_BTH = self.encoder(hidden_BTH, view)
        if masked is None:
            return cast("Tensor", self.head(hidden_BTH, attention_mask.bool()))
        return cast("Projection", self.output(_at(masked, hidden_BTH)))


def _at(places_BP: Tensor, hidden_BTH: Tensor) -> Tensor:
    """The hidden states at some places of each row, [batch, places, hidden]."""
    return hidden_BTH.gather(1, places_BP[:, :, None].expand(-1, -1, hidden_BTH.shape[2]))


class Writer(nn.Module):
    """Embedding, decoder, output: token ids to the logits of the token that follows each."""

    notes: tuple[str, ...] = ()

    def __init__(self, options: TransformerConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, options)
        self.decoder = Decoder(options)
        self.output = Output(self.embedding, tied=options.tied)
        self.memory = options.heads, options.hidden // options.heads

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        document_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Projection:
        """What gives logits [batch, tokens, vocabulary]; the inputs are those of `Reader`.

        Padding stands on the right. There no real token sees it, so that no mask is needed.
        """
        documents = None if document_ids is None else earlier_in_document(document_ids)
        view = View(
            mask_BTS=documents,
            causal=documents is None,
            rotation_BTR=self.embedding.rotation(input_ids, position_ids),
        )
        hidden_BTH = self.decoder(self.embedding(input_ids, position_ids), view)
        return cast("Projection", self.output(hidden_BTH))

    def graphs(self) -> dict[str, Graph]:
        """One graph, `Step`: for the first step of a text the pasts have no token."""
        heads, width = self.memory
        inputs: dict[str, Axes] = {
            "input_ids": ("rows", "tokens"),
            "attention_mask": ("rows", "present"),
        }
        outputs: dict[str, Axes] = {"logits": ("rows", 1, len(self.output.table))}
        for layer in range(len(self.decoder.layers)):
            for each in ("keys", "values"):
                inputs[f"past_{each}_{layer}"] = ("rows", heads, "past", width)
                outputs[f"present_{each}_{layer}"] = ("rows", heads, "present", width)
        return {"model": Graph(module=Step(self), spec=GraphSpec(inputs=inputs, outputs=outputs))}


class Step(nn.Module):
    """A writer that goes on from what it remembers, so that no token passes it twice.

    Positions are counted by the mask, so padding may stand on either side, and between old tokens
    and new ones.
    """

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self.writer = writer

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, *pasts: Tensor
    ) -> tuple[Tensor, ...]:
        """What follows the last real token of each row, and keys and values of all so far.

        Args:
            input_ids: New tokens, [batch, tokens].
            attention_mask: 1 at real tokens, of those before and the new ones, [batch, S].
            pasts: Keys and values of each layer in turn, [batch, heads, before, D].

        Returns:
            Logits [batch, 1, vocabulary], then `pasts` with the new tokens.
        """
        embedding, past = self.writer.embedding, pasts[0].shape[2]
        real_BS = attention_mask.bool()
        positions_BT = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, past:]
        memories = [Memory(*both) for both in zip(pasts[::2], pasts[1::2], strict=True)]
        view = View(
            mask_BTS=earlier(real_BS, past),
            rotation_BTR=embedding.rotation(input_ids, positions_BT),
        )
        hidden_BTH = self.writer.decoder(embedding(input_ids, positions_BT), view, memories)
        last_B = (attention_mask[:, past:] * torch.ones_like(input_ids).cumsum(dim=1)).argmax(dim=1)
        logits_B1V = self.writer.output(_at(last_B[:, None], hidden_BTH)).logits()
        presents = (each for memory in memories for each in (memory.keys_BNSD, memory.values_BNSD))
        return (logits_B1V, *presents)


def build(
    options: TransformerConfig, head: HeadSpec, vocabulary: Vocabulary, *, weights: bool
) -> Reader | Writer:
    """The model, with random weights, or with those of `pretrained` where there is one."""
    options = options.completed(head.level)
    writes = head.level == "next"
    model = Writer(options, vocabulary) if writes else Reader(options, head, vocabulary)
    if weights and options.pretrained is not None:
        model.notes = load(model, options, vocabulary)
    return model
