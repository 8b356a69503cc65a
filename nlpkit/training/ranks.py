"""Ranks: how many processes a strategy wants, and what each of them is given.

What a process is to its group stands in its environment, as torchrun sets it: RANK, WORLD_SIZE,
LOCAL_RANK, LOCAL_WORLD_SIZE.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import torch
import torch.distributed as dist

from nlpkit.config.resolve import build
from nlpkit.engine.precision import resolve_device
from nlpkit.errors import ConfigError

if TYPE_CHECKING:
    from nlpkit.config.schema import Config, KeyPath
    from nlpkit.contracts import Strategy
    from nlpkit.plugin.host import Host
    from nlpkit.plugin.records import StrategyRecord

_DEVICES = ("strategy", "devices")


def ranks_of(config: Config, host: Host) -> int:
    """How many processes the config's strategy wants on this machine; 0: none of its own.

    Raises:
        ConfigError: There are fewer GPUs than `strategy.devices` asks for, or `device` names one.
    """
    if not _has_ranks(config, host):
        return 0
    _refuse_one_gpu(config)
    device, wanted = resolve_device(config.device), config.strategy.options.get("devices", "all")
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if isinstance(wanted, list):  # the least and the most
        wanted = min(max(gpus, wanted[0]), wanted[1])
    ranks = int(wanted) if wanted != "all" else max(1, gpus)
    if gpus and ranks > gpus:
        message = f"{ranks} processes need {ranks} GPUs, and {gpus} can be seen here"
        raise _fault(config, _DEVICES, message, f"set it to {gpus} or less, or use device: cpu")
    return ranks


def join(config: Config, host: Host, rendezvous: str = "env://") -> None:
    """Makes this process a rank of the group that its environment describes.

    Args:
        config: As stored in the run folder.
        host: Has the config's plugins.
        rendezvous: Where the ranks find each other: a URL that `init_process_group` takes.

    Raises:
        ConfigError: The strategy is none that spreads over processes, or has no GPU for this one.
    """
    size = int(os.environ["WORLD_SIZE"])
    if not _has_ranks(config, host):
        if size == 1:
            return
        message = f'"{config.strategy.name}" trains in one process, and {size} were started'
        raise _fault(config, ("strategy",), message, "use strategy: ddp, or start one")
    device = _device_of_rank(config)
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL and DDP take the current one
        backend = "nccl"
    rank = int(os.environ["RANK"])
    dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=size)


def build_strategy(config: Config, host: Host) -> Strategy:
    """The strategy on this process's device; one with ranks takes the group that exists.

    Raises:
        ConfigError: The strategy wants a process group and there is none, or no GPU for this rank.
    """
    device = resolve_device(config.device)
    if _has_ranks(config, host):
        if not dist.is_initialized():
            message = f'"{config.strategy.name}" needs a process for each device'
            remedy = (
                "start it with `nlpkit train`, or `torchrun --nproc-per-node 2 -m nlpkit.worker "
                "RUN_DIR`"
            )
            raise _fault(config, ("strategy",), message, remedy)
        device = _device_of_rank(config)
    return cast("Strategy", build(config.strategy, "strategy", host, device))


def _has_ranks(config: Config, host: Host) -> bool:
    record = host.entry("strategy", config.strategy.name).record
    return cast("StrategyRecord", record).ranks


def _device_of_rank(config: Config) -> torch.device:
    _refuse_one_gpu(config)
    device = resolve_device(config.device)
    if device.type != "cuda":
        return device
    place, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if place >= gpus:
        message = f"this is process {place + 1} of this machine, and {gpus} GPUs can be seen"
        raise _fault(config, _DEVICES, message, "start one process for each GPU")
    return torch.device("cuda", place)


def _refuse_one_gpu(config: Config) -> None:
    if ":" in config.device or config.device == "mps":
        message = f'"{config.strategy.name}" gives each of its processes a GPU of its own'
        remedy = "use device: cuda, and CUDA_VISIBLE_DEVICES to choose some"
        raise _fault(config, ("device",), f"{config.device} is one GPU; {message}", remedy)


def _fault(config: Config, path: KeyPath, message: str, remedy: str) -> ConfigError:
    return ConfigError([config.origin.problem(path, message, remedy)])
