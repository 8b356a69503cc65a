"""The model `conv`: embeddings, one convolution over neighbouring tokens, the usual head."""

from pydantic import PositiveInt
from torch import nn

import nlpkit
from nlpkit.contracts import Resolution
from nlpkit.nn import Head


class ConvOptions(nlpkit.ComponentConfig):
    """What a config can say under `model`."""

    width: PositiveInt = 64


def resolve(options):
    return Resolution(options=options, learning_rate=5e-3)


class Conv(nn.Module):
    inputs = ("input_ids", "attention_mask")

    def __init__(self, width, head, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary.size, width)
        self.conv = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.head = Head(width, head, pooling="mean", dropout=0.1)

    def forward(self, input_ids, attention_mask):
        embedded = self.embedding(input_ids) * attention_mask.unsqueeze(-1)  # padding is zero
        hidden = self.conv(embedded.transpose(1, 2)).relu().transpose(1, 2)
        return self.head(hidden, attention_mask)


def build(options, head, vocabulary, *, weights):
    return Conv(options.width, head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(
        name="conv",
        target="my_conv:build",
        config="my_conv:ConvOptions",
        resolve="my_conv:resolve",
        summary="A convolution over neighbouring tokens",
    )
