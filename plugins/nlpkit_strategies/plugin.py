"""How a step is spread over devices."""

import nlpkit


@nlpkit.hookimpl
def nlpkit_strategies():
    yield nlpkit.StrategyRecord(
        name="single",
        target="nlpkit_strategies.single:build",
        summary="One device",
        extra="train",
    )
