"""One process per device, gradients averaged while the last micro-batch runs backward."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlpkit_strategies.config import DdpConfig


class Ddp:
    """Distributed data parallel over the process group that exists when it is built.

    Small host-side reductions use a group of their own over gloo, so that a count costs no wait for
    the device.
    """

    replicas = 1

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
        if ids is None and self.size > 2:  # two are added up in one way only
            hook = lambda _, bucket: _done(mean_in_rank_order(bucket.buffer()))  # noqa: E731
            self._wrapped.register_comm_hook(None, hook)
        return self._wrapped

    def window(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are averaged in the last window; `no_sync` must hold forward and backward."""
        if self._wrapped is None:
            return nullcontext()
        return self._synchronised(self._wrapped) if last else self._wrapped.no_sync()

    @contextmanager
    def _synchronised(self, module: nn.Module) -> Iterator[None]:
        """Running statistics and the like are rank 0's after each step, for evaluation too."""
        yield
        for buffer in module.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, src=0)

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


def mean_in_rank_order(gradient: torch.Tensor) -> torch.Tensor:
    """A vector averaged over CPU ranks; every element is added up in the order of the ranks.

    A ring adds in an order that depends on where in its bucket an element lies, and DDP lays its
    buckets out anew after the first step of a process: three ranks that were resumed would differ
    in the last bit. Each rank adds up its part of the bucket, so no more is sent than in a ring.
    """
    size = dist.get_world_size()
    sent = functional.pad(gradient, (0, -len(gradient) % size))
    parts, whole = torch.empty_like(sent), torch.empty_like(sent)
    dist.all_to_all_single(parts, sent)
    own, *others = parts.chunk(size)
    for other in others:
        own += other
    dist.all_gather(list(whole.chunk(size)), own / size)
    return whole[: len(gradient)]


def _done(value: torch.Tensor) -> torch.futures.Future[torch.Tensor]:
    future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    future.set_result(value)
    return future


def build(options: DdpConfig, device: torch.device) -> Ddp:
    """The strategy on `device`."""
    return Ddp(device)
