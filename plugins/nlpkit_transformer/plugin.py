"""The Transformer of "Attention Is All You Need", written to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_models() -> Iterator[nlpkit.ModelRecord]:
    """The encoder."""
    yield nlpkit.ModelRecord(
        name="transformer",
        target="nlpkit_transformer.model:build",
        config="nlpkit_transformer.config:TransformerConfig",
        resolve="nlpkit_transformer.config:resolve",
        summary="An encoder trained from scratch",
        extra="train",
    )
