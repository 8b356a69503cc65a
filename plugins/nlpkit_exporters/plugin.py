"""Formats that a trained model can be written in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_exporters() -> Iterator[nlpkit.ExporterRecord]:
    """The export formats."""
    yield nlpkit.ExporterRecord(
        name="state_dict",
        target="nlpkit_exporters.state_dict:build",
        summary="The weights alone: model.pth for torch.load, and model.safetensors",
        extra="train",
    )
