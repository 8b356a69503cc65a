"""A rank under Ray Train: what `nlpkit.worker` does, told to stop and heard through the desk."""

from __future__ import annotations

import io
import os
import threading
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.train.torch
import torch
import torch.distributed as dist

from nlpkit.data.loader import LoaderLostError
from nlpkit.errors import NlpkitError
from nlpkit.worker import work
from nlpkit_ray.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray.actor import ActorHandle

_PATIENCE = 5.0
"""Seconds in which another rank's error, which broke our connection, reaches the desk."""
_GRACE = 10.0
"""Seconds in which a rank ends by itself after another one has failed for good."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a rank is told.

    Attributes:
        run_dir: The run folder, the same path on every node.
        storage: Where the token store is, and the run folder if nodes do not share it; or None
            where there is one machine.
        desk: Where to hear and tell.
    """

    run_dir: str
    storage: str | None
    desk: ActorHandle[Any]


def rank(told: dict[str, Any]) -> dict[str, bool]:
    """Trains as one rank of the group that Ray Train has made.

    Returns:
        `finished`: whether the run came to its end. An error that starting again cannot cure is
        told to the desk and not raised, for Ray Train would start all ranks again.

    Raises:
        Exception: What a new start may cure: a lost connection or loader worker, a storage that
            does not answer.
    """
    order: Order = told["order"]
    if ray.get(order.desk.verdict.remote()):
        return {"finished": False}
    stopping = threading.Event()
    threading.Thread(target=_stop, args=[order.desk, stopping], daemon=True).start()
    threading.Thread(target=_leave, args=[order.desk], daemon=True).start()
    if torch.cuda.is_available():
        device = ray.train.torch.get_device()
        os.environ["LOCAL_RANK"] = str(device.index)
        torch.cuda.set_device(device)
    try:
        with _voice(order.desk):
            return {"finished": _train(order, stopping)}
    except BaseException as error:
        lost = isinstance(error, LoaderLostError) or _connection_lost(error)
        if isinstance(error, NlpkitError) and not lost:
            ray.get(order.desk.fail.remote(error))
        elif not _judged(order.desk):
            raise
        return {"finished": False}
    finally:
        if dist.is_initialized():  # else the others would wait for this one until a timeout
            with suppress(Exception):
                dist.destroy_process_group()


def _train(order: Order, stopping: threading.Event) -> bool:
    run_dir = Path(order.run_dir)
    storage = Storage(order.storage) if order.storage else None
    if storage:
        storage.bring_tokens(run_dir) if storage.is_shared else storage.bring(run_dir)
    try:
        return work(run_dir, stopping.is_set)
    finally:  # a run whose export was refused is trained all the same
        if storage and not storage.is_shared and dist.get_rank() == 0:
            storage.give(run_dir)


@contextmanager
def _voice(desk: ActorHandle[Any]) -> Iterator[None]:
    """What rank 0 writes to its terminal is heard at the driver's; the others' is in Ray's log."""
    if dist.get_rank():
        yield
        return
    voice = _Voice(desk)
    with redirect_stdout(voice), redirect_stderr(voice):
        yield
    ray.get(desk.say.remote(""))  # all that was said before has arrived


class _Voice(io.TextIOBase):
    def __init__(self, desk: ActorHandle[Any]) -> None:
        self._desk = desk

    def write(self, text: str) -> int:
        self._desk.say.remote(text)
        return len(text)


def _stop(desk: ActorHandle[Any], stopping: threading.Event) -> None:
    with suppress(ray.exceptions.RayError):  # the driver is gone, and this process with it
        ray.get(desk.stopping.remote())
        stopping.set()


def _leave(desk: ActorHandle[Any]) -> None:
    """Ends a process that waits in vain for a rank that has failed for good."""
    with suppress(ray.exceptions.RayError):
        ray.get(desk.failed.remote())
        time.sleep(_GRACE)
        os._exit(1)  # Ray Train starts all ranks once more, which return at once


def _judged(desk: ActorHandle[Any]) -> bool:
    """Whether the run fails for good, by what another rank found."""
    deadline = time.monotonic() + _PATIENCE
    while not (judged := ray.get(desk.verdict.remote()) is not None):
        if time.monotonic() > deadline:
            break
        time.sleep(_PATIENCE / 10)
    return judged


def _connection_lost(error: BaseException | None) -> bool:
    """Whether it came of another rank's end: torch has no class of its own for gloo's errors."""
    while error is not None:
        text = str(error)
        if isinstance(error, dist.DistError) or (
            isinstance(error, RuntimeError) and ("gloo" in text or "NCCL" in text)
        ):
            return True
        error = error.__cause__
    return False
