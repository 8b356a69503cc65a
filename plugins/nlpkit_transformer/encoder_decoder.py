"""Encoder and decoder together (figure 1): what is written follows from a source text.

Shape suffixes: B batch, T tokens that are written, S tokens of the source, H hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from nlpkit.contracts import Graph, GraphSpec
from nlpkit_transformer.decoder import Decoder
from nlpkit_transformer.encoder import Encoder, whole_text
from nlpkit_transformer.layers import Embedding, Output, View
from nlpkit_transformer.step import Step, kept, tensors_of

if TYPE_CHECKING:
    from nlpkit.contracts import Axes, Vocabulary
    from nlpkit.nn import Projection
    from nlpkit_transformer.config import TransformerConfig


class Translator(nn.Module):
    """Embedding, encoder, decoder, output: a source and what is written so far to what comes next.

    Both texts have one vocabulary, and one table (section 3.4).
    """

    inputs = ("input_ids", "attention_mask", "decoder_input_ids")
    notes: tuple[str, ...] = ()

    def __init__(self, options: TransformerConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, options)
        self.encoder = Encoder(options)
        self.decoder = Decoder(options, cross=True)
        self.output = Output(self.embedding, tied=options.tied)

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the encoder makes of a source, [batch, source tokens, hidden]."""
        view = View(
            mask_BTS=whole_text(attention_mask, None),
            rotation_BTR=self.embedding.rotation(input_ids),
        )
        return cast("Tensor", self.encoder(self.embedding(input_ids), view))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor
    ) -> Projection:
        """What gives logits [batch, tokens, vocabulary].

        Args:
            input_ids: The source, [batch, source tokens], int64.
            attention_mask: 1 at its real tokens, [batch, source tokens].
            decoder_input_ids: What is written, without its last token, [batch, tokens]. Padding
                stands on the right. There no real token sees it, so that no mask is needed.
        """
        source_BSH = self.read(input_ids, attention_mask)
        view = View(
            causal=True,
            rotation_BTR=self.embedding.rotation(decoder_input_ids),
            source_B1S=whole_text(attention_mask, None),
        )
        hidden_BTH = self.embedding(decoder_input_ids)
        hidden_BTH = self.decoder(hidden_BTH, view, sources=self.decoder.sources(source_BSH))
        return cast("Projection", self.output(hidden_BTH))

    def graphs(self) -> dict[str, Graph]:
        """ "encoder", which runs once a source, and "model", `Step`, which goes on from that."""
        axes: dict[str, Axes] = dict.fromkeys(Source.inputs, ("rows", "source"))
        outputs: dict[str, Axes] = {"present_source_mask": ("rows", "source")}
        outputs |= kept(self, "present_source", "source")
        spec = GraphSpec(inputs=axes, outputs=outputs)
        return {
            "encoder": Graph(module=Source(self), spec=spec),
            "model": Step(self, cross=True).graph(),
        }


class Source(nn.Module):
    """What the decoder's layers take from a source text, worked out once."""

    inputs = ("input_ids", "attention_mask")

    def __init__(self, translator: Translator) -> None:
        super().__init__()
        self.translator = translator

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """The mask, and keys and values of each layer, [batch, heads, source tokens, D]."""
        source_BSH = self.translator.read(input_ids, attention_mask)
        return attention_mask.clone(), *tensors_of(self.translator.decoder.sources(source_BSH))
