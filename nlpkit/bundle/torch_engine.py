"""Weights on disk, and the engine that runs a bundle with torch. The format never imports this."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import safetensors.torch
import torch

from nlpkit.bundle.format import WEIGHTS
from nlpkit.config.resolve import build
from nlpkit.errors import BundleError
from nlpkit.files import replacing
from nlpkit.nn import call
from nlpkit.training.precision import resolve_device, resolve_precision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn

    from nlpkit.bundle.format import Bundle
    from nlpkit.plugin.host import Host


def save_weights(folder: Path, model: nn.Module) -> None:
    """Writes model.safetensors; a file that is there is replaced as a whole or not at all.

    Args:
        folder: The bundle's folder.
        model: The bare model.
    """
    with replacing(folder / WEIGHTS) as partial:
        write_tensors(weights_of(model), partial)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state in host memory, as it is now.

    Tied tensors are in it once, under the first of their names. The same weights give the same
    bytes when written.
    """
    first = _first_names(model)
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
        if first[name] == name
    }


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a safetensors file. Raises OSError where it cannot be written."""
    try:
        safetensors.torch.save_file(dict(tensors), path)
    except safetensors.SafetensorError as error:  # the disk is full, say
        raise OSError(errno.EIO, str(error)) from error


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fills `model` with what `save_weights` wrote.

    Raises:
        BundleError: The file does not fit the model.
    """
    path = folder / WEIGHTS
    try:
        stored = safetensors.torch.load_file(path)
        first = _first_names(model)
        known = {name: stored[kept] for name, kept in first.items() if kept in stored}
        unknown = {name: tensor for name, tensor in stored.items() if name not in first}
        model.load_state_dict({**known, **unknown})
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(
            f"{path}: does not fit the model; are its plugins those that trained it? {reason}"
        ) from None


class TorchEngine:
    """Runs a bundle's model.

    Args:
        bundle: Its weights are verified before they are loaded.
        host: Has the model's plugin.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: "fp32", or "auto": what training would take on the device.

    Raises:
        BundleError: The weights are damaged or do not fit.
        ConfigError: The device is not there.
    """

    model: nn.Module

    def __init__(self, bundle: Bundle, host: Host, *, device: str, precision: str) -> None:
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        bundle.verified(WEIGHTS)
        self.model = build(
            bundle.model, "model", host, bundle.head, bundle.vocabulary, weights=False
        )
        load_weights(bundle.path, self.model)
        self.model.eval().to(self.device)

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits of a batch, float32: [batch, size], or [batch, tokens, size] for a token task."""
        with torch.inference_mode(), self.precision.autocast():
            logits = call(
                self.model,
                {name: torch.from_numpy(array).to(self.device) for name, array in inputs.items()},
            )
        values: np.ndarray = logits.float().cpu().numpy()
        return values


def _first_names(model: nn.Module) -> dict[str, str]:
    """Each name of the state dict, with the first name of the same tensor (often its own)."""
    firsts: dict[tuple[object, ...], str] = {}
    names = {}
    for name, tensor in sorted(model.state_dict().items()):
        place = _place(tensor) if tensor.numel() else (name,)
        names[name] = firsts.setdefault(place, name)
    return names


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
