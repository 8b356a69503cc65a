"""The strategy `plain`: one device, nothing to wrap, nothing to add up."""

from contextlib import nullcontext

import nlpkit


class Plain:
    rank, size, replicas = 0, 1, 1

    def __init__(self, options, device):
        self.device = device

    def wrap(self, module):
        return module

    def window(self, *, last):
        return nullcontext()

    def sum(self, values):
        return values

    def broadcast(self, value):
        return value


@nlpkit.hookimpl
def nlpkit_strategies():
    yield nlpkit.StrategyRecord(name="plain", target="my_strategy:Plain", precisions=("fp32",))
