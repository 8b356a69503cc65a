"""The Transformer as a model: a reader or a writer, by what the task wants of it.

A reader is an encoder: it sees a whole text and says something of it, of each token, or of the
tokens that were hidden. A writer is a decoder: of each token it sees what came before, and says
what comes next. A translator is both (encoder_decoder.py). layers.py has what they are made of;
section numbers are the paper's.

Shape suffixes: B batch, T tokens, H hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from nlpkit.nn import Head
from nlpkit_transformer.decoder import Decoder, earlier_in_document
from nlpkit_transformer.encoder import Encoder, whole_text
from nlpkit_transformer.encoder_decoder import Translator
from nlpkit_transformer.layers import Embedding, Output, View, at_places
from nlpkit_transformer.pretrained import load
from nlpkit_transformer.step import Step

if TYPE_CHECKING:
    from nlpkit.contracts import Graph, HeadSpec, Vocabulary
    from nlpkit.nn import Projection
    from nlpkit_transformer.config import TransformerConfig


class Reader(nn.Module):
    """Embedding, encoder, and a head or an output: token ids to logits."""

    notes: tuple[str, ...] = ()
    trained: bool = False

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
        return cast("Projection", self.output(at_places(masked, hidden_BTH)))


class Writer(nn.Module):
    """Embedding, decoder, output: token ids to the logits of the token that follows each."""

    notes: tuple[str, ...] = ()

    def __init__(self, options: TransformerConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, options)
        self.decoder = Decoder(options)
        self.output = Output(self.embedding, tied=options.tied)

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
        return {"model": Step(self).graph()}


def build(
    options: TransformerConfig, head: HeadSpec, vocabulary: Vocabulary, *, weights: bool
) -> Reader | Writer | Translator:
    """The model, with random weights, or with those of `pretrained` where there is one."""
    options = options.completed(head.level)
    model: Reader | Writer | Translator
    if head.level == "target":
        model = Translator(options, vocabulary)
    elif head.level == "next":
        model = Writer(options, vocabulary)
    else:
        model = Reader(options, head, vocabulary)
    if weights and options.pretrained is not None:
        model.notes = load(model, options, vocabulary, head)
    return model
