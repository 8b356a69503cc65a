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
        needs=("torch",),
        one_graph=True,
        inert=True,
    )
    yield nlpkit.ExporterRecord(
        name="torchscript",
        target="nlpkit_exporters.torchscript:build",
        summary="A trace for C++ and torch.jit.load: model.pt (deprecated upstream)",
        extra="train",
        needs=("torch",),
        one_graph=True,
    )
    yield nlpkit.ExporterRecord(
        name="torch_export",
        target="nlpkit_exporters.torch_export:build",
        summary="A graph for torch.export.load and AOTInductor: model.pt2",
        extra="train",
        needs=("torch",),
        one_graph=True,
    )
    yield nlpkit.ExporterRecord(
        name="onnx",
        target="nlpkit_exporters.onnx:build",
        config="nlpkit_exporters.config:OnnxConfig",
        summary="For ONNX Runtime, without torch: model.onnx",
        extra="onnx",
        needs=("torch", "onnxscript", "onnxruntime"),
        inert=True,
    )
