"""What is wrong with a model or an objective, in words: where the fault is, and what helps."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nlpkit.errors import NlpkitError, PluginError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def explained(device: torch.device) -> Iterator[None]:
    """Surrounds what a component does.

    Raises:
        RunError: The device's memory is full.
        PluginError: With the line of the component and its text; with both devices and a remedy
            where it made a tensor on another one.
    """
    try:
        yield
    except NlpkitError:
        raise
    except torch.OutOfMemoryError as error:
        remedy = "set a smaller train.micro_batch_size, which does not change the result"
        raise RunError(f"{device}: out of memory; {remedy}") from error
    except Exception as error:
        own = Path(torch.__file__).parent
        frames = traceback.extract_tb(error.__traceback__)
        frame = [each for each in frames if own not in Path(each.filename).parents][-1]
        text = f"{frame.filename}:{frame.lineno}: `{frame.line}`: {type(error).__name__}: {error}"
        if "same device" in str(error) or "expected device" in str(error):
            text += (
                f"; the run is on {device}: make tensors with the device of the inputs "
                "(torch.zeros(3, device=x.device))"
            )
        raise PluginError(text) from error


def check_placement(module: nn.Module, device: torch.device, component: str) -> None:
    """Finds tensors that `module.to(device)` left behind: plain attributes that are no buffer.

    Raises:
        PluginError: Naming the component, the tensor, and both devices.
    """
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor) and value.device.type != device.type:
                tensor = f"{path}.{name}".removeprefix(".")
                raise PluginError(
                    f"{component}: tensor {tensor} is on {value.device}, the run is on {device}; "
                    "make it a buffer (register_buffer), then it moves along"
                )


def check_gradients(module: nn.Module) -> None:
    """Finds parameters that the loss does not depend on. Raises PluginError, naming them."""
    without = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    if without:
        raise PluginError(
            f"these parameters get no gradient: {', '.join(without[:5])}; use them in the forward "
            "pass or freeze them (requires_grad_(False))"
        )
