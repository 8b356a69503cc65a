"""Runs the graphs of a model with torch, whether it is in training or comes from a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpkit.engine import cores
from nlpkit.engine.choose import numbers
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
        return {name: _array(each) for name, each in self._outputs(inputs, graph).items()}

    def step(self, inputs: Mapping[str, Any], graph: str = "model") -> dict[str, Any]:
        """As `run`, but what becomes a past stays a tensor on the device, and is taken as one."""
        return {
            name: each if name.startswith("present_") else _array(each)
            for name, each in self._outputs(inputs, graph).items()
        }

    @staticmethod
    def log_sums(logits: np.ndarray) -> list[float]:
        """As `nlpkit.engine.choose.log_sums`, of all rows at once and on all cores."""
        rows_RW = torch.as_tensor(logits)
        tops_R = torch.as_tensor(numbers(rows_RW.amax(dim=1).numpy()))
        sums_R = (rows_RW - tops_R[:, None]).exp_().sum(dim=1, dtype=torch.float64)
        return (tops_R + sums_R.log()).tolist()

    def _outputs(self, inputs: Mapping[str, Any], graph: str) -> dict[str, torch.Tensor]:
        training = self.model.training
        if training:  # else it is not walked through in each step
            self.model.eval()
        with torch.inference_mode(), self.precision.autocast():
            taken = {
                name: torch.as_tensor(inputs[name], device=self.device)
                for name in self.graphs[graph].inputs
                if name in inputs
            }
            outputs = run_graph(self.modules[graph], taken)
        if training:
            self.model.train()
        return outputs


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.cpu(), np.float32 if tensor.is_floating_point() else None)
