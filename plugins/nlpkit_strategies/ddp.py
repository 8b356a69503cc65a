"""One process per device, gradients averaged while the last micro-batch runs backward."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class Ddp:
    """Distributed data parallel over the process group that exists when it is built.

    Small host-side reductions use a group of their own over gloo, so that a count costs no wait for
    the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._host = (
            dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        )
        self._wrapped: DistributedDataParallel | None = None

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module under DDP; weights are rank 0's from here on."""
        ids = [self.device.index] if self.device.type == "cuda" else None
        self._wrapped = DistributedDataParallel(module, device_ids=ids)
        return self._wrapped

    def window(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are averaged in the last window; `no_sync` must hold forward and backward."""
        if last or self._wrapped is None:
            return nullcontext()
        return self._wrapped.no_sync()

    def sum(self, values: np.ndarray) -> np.ndarray:
        """A float64 vector summed over all ranks, over gloo."""
        summed = torch.from_numpy(np.array(values, dtype=np.float64))
        dist.all_reduce(summed, group=self._host)
        return summed.numpy()

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._host)
        return box[0]


def build(options: None, device: torch.device) -> Ddp:
    """The strategy on `device`."""
    return Ddp(device)
