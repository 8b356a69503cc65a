"""A graph of torch.export, which torch.export.load reads and AOTInductor compiles."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from nlpkit.bundle.format import read_bundle
from nlpkit.contracts import Artifact, Exporter
from nlpkit_exporters.tracing import axes, quiet, runner, tensors, the_graph, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nlpkit.contracts import Arrays, Graph

MODEL = "model.pt2"


class TorchExportExporter(Exporter):
    """A program of torch.export."""

    def export(self, graphs: Mapping[str, Graph], out: Path) -> Artifact:
        """Writes model.pt2, for any batch, and any length that the model has positions for.

        Raises:
            RunError: torch cannot export the model.
        """
        graph, free = the_graph(graphs, "torch_export"), torch.export.Dim.DYNAMIC
        with tracing(graph.module, "torch_export"):
            program = torch.export.export(
                graph.module,
                tensors(graph),
                dynamic_shapes=axes(graph, lambda _: free),
                strict=False,
            )
            for node in program.graph.nodes:  # places on this machine
                node.meta.pop("stack_trace", None)
            torch.export.save(program, out / MODEL)
        return Artifact(path=out, files=[out / MODEL])

    def open(self, path: Path) -> dict[str, Callable[[Arrays], Any]]:
        """Loads model.pt2; the model's code is not needed."""
        with quiet():
            module = loaded(path / MODEL)
        return {"model": runner(module, read_bundle(path).graphs["model"])}


def loaded(path: Path) -> Any:
    """The module of a file. Of a sum of two axes newer versions of torch guess that it is 4 at
    least, and would check that."""
    program = torch.export.load(path)
    known = {"check_guards"} & signature(program.module).parameters.keys()
    return program.module(**dict.fromkeys(known, False))


def build(options: None) -> TorchExportExporter:
    """The exporter; it has no options."""
    return TorchExportExporter()
