"""Builds a bundle's model, and fills it with its weights. Reading a bundle never imports this."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import safetensors.torch
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from nlpkit.bundle.format import DESCRIPTION, WEIGHTS
from nlpkit.config.resolve import build
from nlpkit.engine.precision import resolve_device, resolve_precision
from nlpkit.engine.torch import TorchEngine
from nlpkit.engine.weights import load_weights
from nlpkit.errors import BundleError, PluginError
from nlpkit.files import as_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from nlpkit.bundle.format import Bundle
    from nlpkit.contracts import Codec
    from nlpkit.plugin.host import Host

_ALLOCATOR = "DefaultCPUAllocator"
"""What torch calls itself where there is no memory left: a RuntimeError like any other."""


def torch_engine(
    bundle: Bundle, codec: Codec, host: Host, *, device: str, precision: str
) -> TorchEngine:
    """Runs a bundle's model with torch.

    Args:
        bundle: Its weights are verified before they are loaded.
        codec: What the model was trained with.
        host: Has the model's plugin.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: "fp32", or "auto": what training would take on the device.

    Raises:
        BundleError: The weights are damaged or do not fit.
        ConfigError: The device is not there.
    """
    place = resolve_device(device)
    bundle.verify(WEIGHTS)
    with _bounded(bundle):
        model: nn.Module = build(
            bundle.model, "model", host, bundle.head, bundle.vocabulary, weights=False
        )
    engine = TorchEngine(model, codec, device=place, precision=resolve_precision(precision, place))
    own, described = (
        as_json({name: asdict(spec) for name, spec in each.items()})
        for each in (engine.graphs, bundle.graphs)
    )
    if own != described:
        problem = "the graphs that it describes are not those of its model"
        raise BundleError(f"{bundle.path / DESCRIPTION}: {problem}")
    load_weights(bundle.path / WEIGHTS, model)
    model.eval().to(place)
    return engine


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

    with (
        register_module_parameter_registration_hook(partial(count, "parameters")),
        register_module_buffer_registration_hook(partial(count, "buffers")),
    ):
        try:
            yield
        except PluginError as error:  # what it needs was asked for before it could be counted
            if isinstance(error.__cause__, MemoryError) or _ALLOCATOR in str(error):
                raise larger from error
            raise
