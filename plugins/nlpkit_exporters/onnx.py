"""ONNX, for ONNX Runtime and most other runtimes. Opening it needs no torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nlpkit.bundle.format import DESCRIPTION, read_bundle
from nlpkit.contracts import Approximation, Artifact, Exporter
from nlpkit.engine.onnx import OnnxSession
from nlpkit.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nlpkit.contracts import Arrays, Graph
    from nlpkit_exporters.config import OnnxConfig

SUFFIX = ".onnx"

OPSET = 20
"""The first that has Gelu as one operator; ONNX Runtime 1.20 reads up to 21."""

ONE_FILE = 1536 * 2**20
"""Bytes of weights up to which they lie in model.onnx: protobuf ends at 2 GB, the graph included,
and torch makes two files from here on whatever it is told."""


class OnnxExporter(Exporter):
    """ONNX: a file a graph."""

    def __init__(self, options: OnnxConfig) -> None:
        self.options = options

    def export(self, graphs: Mapping[str, Graph], out: Path) -> Artifact:
        """Writes a file a graph, for any batch and length; the weights of a large one beside it.

        Raises:
            RunError: torch cannot export the model.
        """
        import torch

        from nlpkit_exporters.tracing import axes, tensors, tracing

        for name, graph in graphs.items():
            with tracing(graph.module, "onnx"):
                program: Any = torch.onnx.export(
                    graph.module,
                    tensors(graph),
                    input_names=list(graph.spec.inputs),
                    output_names=list(graph.spec.outputs),
                    dynamic_shapes=axes(graph, _dimension),
                    opset_version=OPSET,
                    dynamo=True,
                    verbose=False,
                )
                _describe(program.model, out)
                weights = program.model.graph.initializers.values()
                size = sum(each.const_value.nbytes for each in weights)
                program.save(out / f"{name}{SUFFIX}", external_data=size > ONE_FILE)
        approximation = None
        if self.options.quantize == "int8":
            from nlpkit_exporters.quantize import quantize

            for name in graphs:
                quantize(out / f"{name}{SUFFIX}")
            approximation = Approximation(
                min_agreement=self.options.min_agreement, max_drop=self.options.max_drop
            )
        files = sorted(path for name in graphs for path in out.glob(f"{name}{SUFFIX}*"))
        return Artifact(path=out, files=files, approximation=approximation)

    def open(self, path: Path) -> dict[str, Callable[[Arrays], Any]]:
        """Loads each graph into ONNX Runtime; neither torch nor the model's code is needed."""
        opened: dict[str, Callable[[Arrays], Any]] = {}
        for name, spec in read_bundle(path).graphs.items():
            session = OnnxSession(path / f"{name}{SUFFIX}")
            named = [*spec.inputs, *spec.outputs]
            found = [*session.inputs, *session.outputs]
            if not set(session.inputs) <= set(spec.inputs) or session.outputs != [*spec.outputs]:
                problem = f"has {', '.join(found)}; {DESCRIPTION} names {', '.join(named)}"
                raise BundleError(f"{path / name}{SUFFIX}: {problem}")
            opened[name] = session.run
        return opened


def _dimension(axis: str) -> str:
    """The name of an axis in the file."""
    return {"rows": "batch", "tokens": "length"}.get(axis, axis)


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
