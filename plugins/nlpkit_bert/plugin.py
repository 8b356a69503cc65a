"""Pretrained encoders, from a local folder or the hub, and the way back into such a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_models() -> Iterator[nlpkit.ModelRecord]:
    """The pretrained encoder."""
    yield nlpkit.ModelRecord(
        name="bert",
        target="nlpkit_bert.model:build",
        config="nlpkit_bert.config:BertOptions",
        resolve="nlpkit_bert.resolve:resolve",
        check="nlpkit_bert.resolve:check",
        summary="A pretrained BERT or its kin, from a folder or the hub",
        extra="train",
        levels=("sequence", "token", "vocabulary"),
        documents=True,
    )


@nlpkit.hookimpl
def nlpkit_exporters() -> Iterator[nlpkit.ExporterRecord]:
    """A folder of transformers."""
    yield nlpkit.ExporterRecord(
        name="huggingface",
        target="nlpkit_bert.export:build",
        summary="For transformers, without nlpkit: config.json, model.safetensors",
        extra="train",
        needs=("torch", "transformers"),
        one_graph=True,
        inert=True,
    )
