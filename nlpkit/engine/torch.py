"""Runs the graphs of a model with torch, whether it is in training or comes from a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nlpkit.engine import cores
from nlpkit.nn import run_graph

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import nn

    from nlpkit.contracts import Arrays, Graph, GraphSpec
    from nlpkit.engine.precision import Precision


class TorchEngine:
    """Implements `nlpkit.contracts.Engine`.

    Args:
        model: On its device; while a graph runs it is in evaluation mode.
        modules: Its graphs by name.
        device: Where it is.
        precision: Of the forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        modules: Mapping[str, Graph],
        *,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.model, self.modules = model, modules
        self.graphs: Mapping[str, GraphSpec] = {name: graph.spec for name, graph in modules.items()}
        self.device, self.precision = device, precision
        cores.share()

    def run(self, inputs: Arrays, graph: str = "model") -> dict[str, np.ndarray]:
        """The outputs of a graph by name; floats as float32."""
        training = self.model.training
        self.model.eval()
        with torch.inference_mode(), self.precision.autocast():
            taken = {
                name: torch.from_numpy(inputs[name]).to(self.device)
                for name in self.graphs[graph].inputs
                if name in inputs
            }
            outputs = run_graph(self.modules[graph], taken)
        self.model.train(training)
        return {name: _array(each) for name, each in outputs.items()}


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    array: np.ndarray = tensor.cpu().numpy()
    return array
