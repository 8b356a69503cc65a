"""Weights on disk: safetensors, tied tensors once, the same bytes for the same weights."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import safetensors.torch

from nlpkit.errors import BundleError
from nlpkit.files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn


def save_weights(path: Path, model: nn.Module) -> None:
    """Writes a safetensors file; one that is there is replaced as a whole or not at all."""
    with replacing(path) as partial:
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


def load_weights(path: Path, model: nn.Module) -> None:
    """Fills `model` with what `save_weights` wrote.

    Raises:
        BundleError: The file does not fit the model.
    """
    try:
        stored = safetensors.torch.load_file(path)
        first = _first_names(model)
        known = {name: stored[kept] for name, kept in first.items() if kept in stored}
        model.load_state_dict({**stored, **known})
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(
            f"{path}: does not fit the model; are its plugins those that trained it? {reason}"
        ) from None


def _first_names(model: nn.Module) -> dict[str, str]:
    """Each name of the state dict, with the first name of the same tensor (often its own)."""
    firsts: dict[tuple[object, ...], str] = {}
    names = {}
    for name, tensor in sorted(model.state_dict().items()):
        place = tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
        names[name] = firsts.setdefault(place if tensor.numel() else (name,), name)
    return names
