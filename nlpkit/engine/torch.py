"""Runs the graphs of a model with torch, whether it is in training or comes from a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nlpkit.engine import cores
from nlpkit.nn import graphs_of, run_graph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from nlpkit.contracts import Arrays, Codec, GraphSpec
    from nlpkit.engine.precision import Precision


class TorchEngine:
    """Implements `nlpkit.contracts.Engine`.

    Args:
        model: While one of its graphs runs it is in evaluation mode.
        codec: The task's.
        device: Where the model is.
        precision: Of the forward pass.
    """

    def __init__(
        self, model: nn.Module, codec: Codec, *, device: torch.device, precision: Precision
    ) -> None:
        self.model, self.modules = model, graphs_of(model, codec)
        self.graphs: Mapping[str, GraphSpec] = {
            name: graph.spec for name, graph in self.modules.items()
        }
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
        return {
            name: np.asarray(each.cpu(), np.float32 if each.is_floating_point() else None)
            for name, each in outputs.items()
        }
