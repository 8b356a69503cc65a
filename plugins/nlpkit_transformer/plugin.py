"""The Transformer of "Attention Is All You Need", written to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_models() -> Iterator[nlpkit.ModelRecord]:
    """Encoder and decoder: a task names the level that it needs."""
    yield nlpkit.ModelRecord(
        name="transformer",
        target="nlpkit_transformer.model:build",
        config="nlpkit_transformer.config:TransformerConfig",
        resolve="nlpkit_transformer.pretrained:resolve",
        check="nlpkit_transformer.pretrained:check",
        summary="An encoder, a decoder or both, trained from scratch",
        levels=("sequence", "token", "vocabulary", "next", "target"),
        documents=True,
        extra="train",
    )
