"""How a step is spread over devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_strategies() -> Iterator[nlpkit.StrategyRecord]:
    """One device."""
    yield nlpkit.StrategyRecord(
        name="single",
        target="nlpkit_strategies.single:build",
        summary="One device",
        extra="train",
    )
