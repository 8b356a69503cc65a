"""The weights alone, for programs that bring the model's code themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from nlpkit.bundle.format import read_bundle
from nlpkit.bundle.load import host_of
from nlpkit.config.resolve import build as build_component
from nlpkit.contracts import Artifact, Exporter
from nlpkit.engine.weights import save_weights
from nlpkit_exporters.tracing import runner, the_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nlpkit.contracts import Arrays, Graph


class StateDictExporter(Exporter):
    """The weights alone."""

    def export(self, graphs: Mapping[str, Graph], out: Path) -> Artifact:
        """Writes model.pth, which `torch.load(weights_only=True)` reads, and model.safetensors."""
        model = the_graph(graphs, "state_dict").module
        weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        torch.save(weights, out / "model.pth")
        save_weights(out / "model.safetensors", model)
        return Artifact(path=out, files=[out / "model.pth", out / "model.safetensors"])

    def open(self, path: Path) -> dict[str, Callable[[Arrays], Any]]:
        """Builds the model that the folder describes, and fills it from model.pth.

        Raises:
            BundleError: The model's plugin is a file that was not trained with here.
            PluginError: The model's plugin is not installed.
        """
        bundle = read_bundle(path)
        host = host_of(bundle, trust_plugins=False, kinds=("model",))
        model = build_component(
            bundle.model, "model", host, bundle.head, bundle.vocabulary, weights=False
        )
        model.load_state_dict(torch.load(path / "model.pth", map_location="cpu", weights_only=True))
        return {"model": runner(model.eval(), bundle.graphs["model"])}


def build(options: None) -> StateDictExporter:
    """The exporter; it has no options."""
    return StateDictExporter()
