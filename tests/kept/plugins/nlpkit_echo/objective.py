"""Squared error, summed."""

from __future__ import annotations


class EchoObjective:
    def __init__(self, options, schema):
        pass

    def total(self, logits, targets):
        return (logits[:, 0] - targets["words"].to(logits.dtype)).square().sum()

    def output(self, logits, targets):
        return logits
