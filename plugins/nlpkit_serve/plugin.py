"""Predictions over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_commands() -> Iterator[nlpkit.CommandRecord]:
    """`nlpkit serve`."""
    yield nlpkit.CommandRecord(
        name="serve",
        target="nlpkit_serve.command:command",
        summary="Answer requests for predictions over HTTP",
        extra="serve",
        group="Use",
        example="nlpkit serve runs/starter --port 8000",
    )
