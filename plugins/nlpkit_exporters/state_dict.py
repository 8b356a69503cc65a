"""The weights alone, for programs that bring the model's code themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nlpkit.bundle.torch_engine import save_weights
from nlpkit.contracts import Artifact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from torch import nn


class StateDictExporter:
    """Implements `nlpkit.contracts.Exporter`."""

    def export(
        self,
        model: nn.Module,
        inputs: Sequence[str],
        sample: Mapping[str, np.ndarray],
        out: Path,
    ) -> Artifact:
        """Writes model.pth, which `torch.load(weights_only=True)` reads, and model.safetensors."""
        weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        torch.save(weights, out / "model.pth")
        save_weights(out, model)
        return Artifact(path=out, files=[out / "model.pth", out / "model.safetensors"])


def build(options: None) -> StateDictExporter:
    """The exporter; it has no options."""
    return StateDictExporter()
