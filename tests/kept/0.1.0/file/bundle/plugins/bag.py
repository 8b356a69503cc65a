
import nlpkit
from torch import nn


class Bag(nn.Module):
    def __init__(self, head, vocabulary):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary.size, head.size)

    def forward(self, input_ids):
        return self.embedding(input_ids)


def build(options, head, vocabulary, *, weights):
    return Bag(head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="bag", target="bag:build")
