"""A graph of torch.export, which torch.export.load reads and AOTInductor compiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nlpkit.contracts import Artifact
from nlpkit_exporters.tracing import axes, quiet, runner, tensors, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from torch import nn

MODEL = "model.pt2"


class TorchExportExporter:
    """Implements `nlpkit.contracts.Exporter`."""

    def export(
        self,
        model: nn.Module,
        inputs: Sequence[str],
        sample: Mapping[str, np.ndarray],
        out: Path,
    ) -> Artifact:
        """Writes model.pt2, for any batch, and any length that the model has positions for.

        Raises:
            RunError: torch cannot export the model.
        """
        free = torch.export.Dim.DYNAMIC
        with tracing(model, "torch_export"):
            program = torch.export.export(
                model,
                tensors(sample, inputs),
                dynamic_shapes=axes(free, free, inputs),
                strict=False,
            )
            for node in program.graph.nodes:  # places on this machine
                node.meta.pop("stack_trace", None)
            torch.export.save(program, out / MODEL)
        return Artifact(path=out, files=[out / MODEL])

    def open(self, path: Path) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Loads model.pt2; the model's code is not needed."""
        with quiet():
            module = torch.export.load(path / MODEL).module()
        return runner(module, path)


def build(options: None) -> TorchExportExporter:
    """The exporter; it has no options."""
    return TorchExportExporter()
