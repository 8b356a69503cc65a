"""A model of one's own: averaged embeddings, and a linear layer."""

from torch import nn

import nlpkit
from nlpkit.nn import Head


class BagOptions(nlpkit.ComponentConfig):
    """What a config can say under `model`."""

    width: int = 64


class Bag(nn.Module):
    def __init__(self, width, head, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary.size, width)
        self.head = Head(width, head, pooling="mean", dropout=0.1)

    def forward(self, input_ids, attention_mask):
        return self.head(self.embedding(input_ids), attention_mask)


def build(options, head, vocabulary, *, weights):
    return Bag(options.width, head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="bag", target="my_model:build", config="my_model:BagOptions")
