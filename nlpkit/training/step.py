"""One optimizer step: the same gradient however the batch is split (law 1)."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpkit.errors import PluginError
from nlpkit.training.precision import Precision, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from nlpkit.contracts import Batch, Strategy


def optimizer_step(
    batches: Sequence[Batch],
    module: nn.Module,
    strategy: Strategy,
    precision: Precision,
    optimizer: torch.optim.Optimizer,
    max_norm: float,
    *,
    stop: bool = False,
) -> Step:
    """Feeds this rank's micro-batches of one global batch and takes one optimizer step.

    Each micro-batch gives a SUM; every rank divides by the count of the whole global batch, which
    one small all-reduce tells before the first forward pass. DDP averages over ranks, hence
    `strategy.size`.
    """
    local = np.array([sum(batch.count for batch in batches), float(stop)])
    count, stopping = strategy.sum(local).tolist()
    if count == 0:  # of the whole batch, so every rank agrees
        return Step(loss=0.0, norm=0.0, taken=False, stopping=stopping > 0)
    loss = torch.zeros((), dtype=torch.float64, device=strategy.device)
    for index, batch in enumerate(batches):
        moved = to_device(batch, strategy.device)
        last = index == len(batches) - 1
        with naming_the_device(strategy.device), strategy.window(last=last):
            with precision.autocast():
                total = module(moved.inputs, moved.targets).sum()
            precision.backward(total * (batch.weight * strategy.size / count))
        loss += batch.weight * total.detach()
    value, norm, taken = precision.step(optimizer, max_norm, loss / count)
    return Step(loss=value, norm=norm, taken=taken, stopping=stopping > 0)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; from pinned memory the copy overlaps with work."""

    def moved(tensors: Any) -> dict[str, torch.Tensor]:
        return {name: value.to(device, non_blocking=True) for name, value in tensors.items()}

    return replace(batch, inputs=moved(batch.inputs), targets=moved(batch.targets))


@contextmanager
def naming_the_device(device: torch.device) -> Iterator[None]:
    """Turns torch's complaint about a tensor made on another device into one that says where.

    Raises:
        PluginError: With the line of the component, its text, both devices and a remedy.
    """
    try:
        yield
    except RuntimeError as error:
        if "same device" not in str(error) and "expected device" not in str(error):
            raise
        own = Path(torch.__file__).parent
        frames = traceback.extract_tb(error.__traceback__)
        frame = [each for each in frames if own not in Path(each.filename).parents][-1]
        raise PluginError(
            f"{frame.filename}:{frame.lineno}: `{frame.line}`: {error}; the run is on {device}: "
            "make tensors with the device of the inputs (torch.zeros(3, device=x.device))"
        ) from error


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
