"""ONNX, for ONNX Runtime and most other runtimes. Opening it needs no torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nlpkit.bundle.format import DESCRIPTION
from nlpkit.contracts import Approximation, Artifact
from nlpkit.engine.onnx import OnnxEngine
from nlpkit.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from torch import nn

    from nlpkit_exporters.config import OnnxConfig

MODEL = "model.onnx"

OPSET = 20
"""The first that has Gelu as one operator; ONNX Runtime 1.20 reads up to 21."""

ONE_FILE = 1536 * 2**20
"""Bytes of weights up to which they lie in model.onnx: protobuf ends at 2 GB, the graph included,
and torch makes two files from here on whatever it is told."""


class OnnxExporter:
    """Implements `nlpkit.contracts.Exporter`."""

    def __init__(self, options: OnnxConfig) -> None:
        self.options = options

    def export(
        self,
        model: nn.Module,
        inputs: Sequence[str],
        sample: Mapping[str, np.ndarray],
        out: Path,
    ) -> Artifact:
        """Writes model.onnx, for any batch and length; the weights of a large model beside it.

        Raises:
            RunError: torch cannot export the model.
        """
        import torch

        from nlpkit_exporters.tracing import axes, tensors, tracing

        with tracing(model, "onnx"):
            program: Any = torch.onnx.export(
                model,
                tensors(sample, inputs),
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes=axes("batch", "length", inputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            _describe(program.model, out)
            weights = program.model.graph.initializers.values()
            size = sum(each.const_value.nbytes for each in weights)
            program.save(out / MODEL, external_data=size > ONE_FILE)
        approximation = None
        if self.options.quantize == "int8":
            from nlpkit_exporters.quantize import quantize

            quantize(out / MODEL)
            approximation = Approximation(
                min_agreement=self.options.min_agreement, max_drop=self.options.max_drop
            )
        files = sorted(out.glob(f"{MODEL}*"))
        return Artifact(path=out, files=files, approximation=approximation)

    def open(self, path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Loads model.onnx into ONNX Runtime; neither torch nor the model's code is needed."""
        engine = OnnxEngine(path / MODEL)
        given = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))["model"]["inputs"]
        if not set(engine.inputs) <= set(given):
            problem = f"takes {', '.join(engine.inputs)}; {DESCRIPTION} names {', '.join(given)}"
            raise BundleError(f"{path / MODEL}: {problem}")
        return engine.run


def _describe(model: Any, out: Path) -> None:
    """Puts the labels and the task into the model's metadata; no places on this machine stay."""
    description = json.loads((out / DESCRIPTION).read_text(encoding="utf-8"))
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    labels = json.dumps(description["schema"].get("labels", []), ensure_ascii=False)
    model.metadata_props.update(
        {"labels": labels, "task": description["task"]["name"], "nlpkit": description["nlpkit"]}
    )


def build(options: OnnxConfig) -> OnnxExporter:
    """The exporter."""
    return OnnxExporter(options)
