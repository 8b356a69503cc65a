"""A trace of the model, which libtorch loads in C++ and torch.jit.load in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from nlpkit.bundle.format import read_bundle
from nlpkit.contracts import Artifact, Exporter
from nlpkit_exporters.tracing import quiet, runner, tensors, the_graph, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np

    from nlpkit.contracts import Arrays, Graph

MODEL = "model.pt"

_DEPRECATED = (
    "TorchScript is deprecated upstream, in favour of torch.export (the format torch_export); "
    "C++ services on libtorch still load it"
)
_BOUND = "; this model names the CPU in its code, so the trace runs there only"


class TorchScriptExporter(Exporter):
    """A trace."""

    def export(self, graphs: Mapping[str, Graph], out: Path) -> Artifact:
        """Writes model.pt, traced on the CPU, for any batch and length.

        Raises:
            RunError: torch cannot trace the model.
        """
        graph = the_graph(graphs, "torchscript")
        with tracing(graph.module, "torchscript"):
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                graph.module, tensors(graph), check_trace=False
            )
            traced.save(str(out / MODEL))
        note = _DEPRECATED + (_BOUND if device_constants(traced) else "")
        return Artifact(path=out, files=[out / MODEL], note=note)

    def open(self, path: Path) -> dict[str, Callable[[Arrays], Any]]:
        """Loads model.pt on the CPU; the model's code is not needed."""
        with quiet():
            module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path / MODEL), map_location="cpu"
            )
        run = runner(module, read_bundle(path).graphs["model"])

        def run_unwatched(inputs: Arrays) -> list[np.ndarray]:
            # torch would watch the first call and optimize in the next, and where it can fuse it
            # would compile up to ten times for new shapes. (The public function only warns first.)
            usual = torch._C._jit_set_fusion_strategy([])
            try:
                return run(inputs)
            finally:
                torch._C._jit_set_fusion_strategy(usual)

        return {"model": run_unwatched}


def device_constants(traced: torch.jit.ScriptModule) -> list[str]:
    """What ties a trace to the device that it was made on, in the graph of it and its submodules.

    That is a device by name, or a tensor that is no parameter and no buffer and has a dimension (a
    bare number goes with tensors of any device).
    """
    found = []
    graph: Any = traced.inlined_graph
    for node in graph.findAllNodes("prim::Constant", recurse=True):
        kind = node.kindOf("value") if node.hasAttribute("value") else ""
        device = isinstance(node.output().type(), torch.DeviceObjType)
        if device or (kind == "t" and node.t("value").dim()):
            found.append(str(node).strip())
    return found


def build(options: None) -> TorchScriptExporter:
    """The exporter; it has no options."""
    return TorchScriptExporter()
