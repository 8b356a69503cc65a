"""Weights on disk, and the engine that runs a bundle with torch. The format never imports this."""

from __future__ import annotations

import errno
import math
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from nlpkit.bundle.format import DESCRIPTION, WEIGHTS
from nlpkit.config.resolve import build
from nlpkit.engine import cores
from nlpkit.engine.precision import resolve_device, resolve_precision
from nlpkit.errors import BundleError, PluginError
from nlpkit.files import replacing
from nlpkit.nn import call, input_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn

    from nlpkit.bundle.format import Bundle
    from nlpkit.plugin.host import Host


_ALLOCATOR = "DefaultCPUAllocator"
"""What torch calls itself where there is no memory left: a RuntimeError like any other."""


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
        with _bounded(bundle):
            self.model = build(
                bundle.model, "model", host, bundle.head, bundle.vocabulary, weights=False
            )
        if (taken := input_names(self.model)) != bundle.inputs:
            problem = f"its model takes {', '.join(taken)}, not {', '.join(bundle.inputs)}"
            raise BundleError(f"{bundle.path / DESCRIPTION}: {problem}")
        load_weights(bundle.path, self.model)
        self.model.eval().to(self.device)
        cores.share()

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits of a batch, float32: [batch, size], or [batch, tokens, size] for a token task."""
        with torch.inference_mode(), self.precision.autocast():
            logits = call(
                self.model,
                {name: torch.from_numpy(array).to(self.device) for name, array in inputs.items()},
            )
        values: np.ndarray = logits.float().cpu().numpy()
        return values


@contextmanager
def _bounded(bundle: Bundle) -> Iterator[None]:
    """Ends the building of a model that is far larger than its weights.

    A tensor is counted when it becomes a part of a module, before memory is put into it.

    Raises:
        BundleError: Saying so; else memory would, or the end of the day, before both are compared.
    """
    path = bundle.path / WEIGHTS
    try:
        with safetensors.safe_open(path, "pt") as file:
            sizes = [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]
    except safetensors.SafetensorError as error:
        raise BundleError(f"{path}: is no safetensors file ({error})") from None
    larger = BundleError(
        f"{bundle.path / DESCRIPTION}: describes another model than {WEIGHTS} holds, one that is "
        "far larger"
    )
    room = {"parameters": 4 * sum(sizes) + 1_000, "buffers": 4 * sum(sizes) + 2**26}

    def count(kind: str, module: nn.Module, name: str, tensor: Tensor | None) -> None:
        room[kind] -= 1 if tensor is None else tensor.numel() + 1
        if room[kind] < 0:
            raise larger

    hooks = [
        register_module_parameter_registration_hook(partial(count, "parameters")),
        register_module_buffer_registration_hook(partial(count, "buffers")),
    ]
    try:
        yield
    except PluginError as error:  # what it needs was asked for before it could be counted
        if isinstance(error.__cause__, MemoryError) or _ALLOCATOR in str(error):
            raise larger from error
        raise
    finally:
        for hook in hooks:
            hook.remove()


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
