"""One process, several GPUs: the samples of a micro-batch are split, and their totals summed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import parallel

from nlpkit.errors import ConfigError, Problem
from nlpkit_strategies.single import Single

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nlpkit_strategies.config import DataParallelConfig

    Tensors = Mapping[str, Tensor]


class DataParallel(Single):
    """Several devices; the first one holds weights and gradients, and evaluates."""

    notes = (
        "data_parallel copies the weights to every GPU for each micro-batch, from one process; "
        "strategy: ddp is faster and gives the same gradients",
    )

    def __init__(self, devices: Sequence[torch.device]) -> None:
        super().__init__(devices[0])
        self.devices = devices
        self.replicas = len(devices)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, spread over the devices in each forward pass."""
        return SplitAndSum(module, self.devices)


class SplitAndSum(nn.Module):
    """Gives each replica of a module an even share of a batch's samples, and sums their totals.

    Unlike `nn.DataParallel` it keeps the type of autocast, which belongs to a thread, leaves out
    replicas where there are fewer samples, and keeps the windows of a sample together.

    Args:
        module: On the first device; gives a total of shape [1].
        devices: One for each replica.
        replicate: Copies the module to devices; the copies' gradients add up in the module.
    """

    def __init__(
        self,
        module: nn.Module,
        devices: Sequence[torch.device],
        replicate: Callable[[Any, Any], Sequence[nn.Module]] = parallel.replicate,
    ) -> None:
        super().__init__()
        self.module, self.devices, self._replicate = module, devices, replicate

    def forward(self, inputs: Tensors, targets: Tensors, rows: Tensor | None = None) -> Tensor:
        """The summed loss, of shape [1]; every tensor has the batch's rows or samples first.

        Samples of several rows are waited for: where one ends is needed.
        """
        first = self.devices[0]
        samples = len(next(iter(inputs.values())) if rows is None else rows)
        devices = self.devices[:samples]
        replicas = self._replicate(self.module, devices)
        graded = torch.is_grad_enabled()
        enabled = torch.is_autocast_enabled(first.type)
        dtype = torch.get_autocast_dtype(first.type)

        def total(
            replica: nn.Module, inputs: Tensors, targets: Tensors, rows: Tensor | None
        ) -> Tensor:
            # A thread starts with defaults: gradients, autocast and current device are its own.
            with (
                torch.set_grad_enabled(graded),
                torch.autocast(first.type, dtype=dtype, enabled=enabled),
                torch.cuda.device_of(next(iter(inputs.values()))),  # type: ignore[no-untyped-call]
            ):
                return cast("Tensor", replica(inputs, targets, rows))

        with ThreadPoolExecutor(len(devices)) as pool:
            shares = (_shares(tensors, rows, devices) for tensors in (inputs, targets))
            counts = [None] * len(devices) if rows is None else _pieces(rows, None, devices)
            totals = [each.to(first) for each in pool.map(total, replicas, *shares, counts)]
        return torch.stack(totals).sum(dim=0)


def _shares(
    tensors: Tensors, rows: Tensor | None, devices: Sequence[torch.device]
) -> list[dict[str, Tensor]]:
    """The samples cut into even pieces, in the order of their lengths that they came in."""
    shares: list[dict[str, Tensor]] = [{} for _ in devices]
    for name, tensor in tensors.items():
        for share, piece in zip(shares, _pieces(tensor, rows, devices), strict=True):
            share[name] = piece
    return shares


def _pieces(tensor: Tensor, rows: Tensor | None, devices: Sequence[torch.device]) -> list[Tensor]:
    """A piece for each device; of a tensor that has the samples' rows, as many as these have."""
    pieces = tensor.tensor_split(len(devices))
    if rows is not None and len(tensor) != len(rows):
        counts = rows.cpu().tensor_split(len(devices))
        pieces = torch.split(tensor, [int(each.sum()) for each in counts])
    return [
        each.to(device, non_blocking=True) for each, device in zip(pieces, devices, strict=True)
    ]


def build(options: DataParallelConfig, device: torch.device) -> DataParallel:
    """The strategy on `device` and the GPUs after it.

    Raises:
        ConfigError: There are fewer than two GPUs, or fewer than asked for.
    """
    found = torch.cuda.device_count() if device.type == "cuda" else 0
    wanted = found if options.devices == "all" else options.devices
    if min(wanted, found) < 2:
        message = f"data_parallel is for 2 GPUs and more, not for {min(wanted, found)}"
        raise ConfigError([Problem(key="strategy", message=message, remedy="use strategy: single")])
    if wanted > found:
        message, remedy = f"{wanted} GPUs are wanted, {found} found", f"set all, or at most {found}"
        raise ConfigError([Problem(key="strategy.devices", message=message, remedy=remedy)])
    first = device.index or 0
    return DataParallel([torch.device("cuda", (first + at) % found) for at in range(wanted)])
