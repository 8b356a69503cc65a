"""The model `echo_sum`: a sum over the tokens' embeddings, then one layer."""

from __future__ import annotations

from torch import nn


class EchoSum(nn.Module):
    def __init__(self, width, head, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary.size, width)
        self.out = nn.Linear(width, head.size)

    def forward(self, input_ids, attention_mask):
        embedded = self.embedding(input_ids) * attention_mask.unsqueeze(-1)
        return self.out(embedded.sum(dim=1))


def build(options, head, vocabulary, *, weights):
    return EchoSum(options.width, head, vocabulary)
