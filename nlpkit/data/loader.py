"""Batches for the loop: whole optimizer steps, collated by loader workers ahead of time.

The DataLoader's items are step numbers, so whatever a step holds depends on its number alone
(law 2): not on the workers, and not on where a run began. Workers send numpy arrays through pipes,
which needs neither shared memory nor file handles; tensors are made in the process that trains.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import threading
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nlpkit.data.plan import evaluation_plan, plan, sample_seeds, share
from nlpkit.environment import MORE_SHARED_MEMORY, SHARED_MEMORY_FULL
from nlpkit.errors import RunError
from nlpkit.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nlpkit.contracts import Batch, Codec
    from nlpkit.data.store import TokenStore

_PDEATHSIG = 1  # of prctl(2): the signal that a process gets when its parent ends


@dataclass(frozen=True, kw_only=True)
class StepBatches:
    """What one rank does in one optimizer step.

    Attributes:
        step: The optimizer step, counted from 1 over all epochs.
        epoch: The epoch, counted from 1.
        batches: This rank's micro-batches; one of weight 0 and count 0 where it has no samples.
        ids: Sample ids of the whole global batch.
        tokens: Real tokens in the global batch.
        positions: Those and the padding, in the micro-batches of all ranks.
    """

    step: int
    epoch: int
    batches: list[Batch]
    ids: np.ndarray
    tokens: int
    positions: int

    def pin_memory(self) -> Self:
        """The step with its tensors in page-locked memory; DataLoader calls this."""
        return replace(self, batches=[_mapped(batch, _pinned) for batch in self.batches])


@dataclass(frozen=True, kw_only=True)
class Batching:
    """What decides which samples meet.

    Attributes:
        seed: The run's seed.
        batch_size: Samples per optimizer step over all ranks.
        micro_batch_size: Samples (or rows of the inputs, where these are more) per forward pass;
            None: as many as the rank's share has samples.
        bucketing: Whether samples of like length meet.
    """

    seed: int
    batch_size: int
    micro_batch_size: int | None = None
    bucketing: bool = True


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Who loads batches, and how far ahead.

    Attributes:
        rank: Of this process.
        size: Number of ranks.
        workers: Processes that collate; 0: this one does.
        prefetch: Steps that each worker is ahead.
        pin_memory: Whether tensors go into page-locked memory.
    """

    rank: int = 0
    size: int = 1
    workers: int = 0
    prefetch: int = 2
    pin_memory: bool = False


@dataclass
class TrainingSteps(Dataset[StepBatches]):
    """This rank's part of each optimizer step; keeps the plan of the epoch that it is in."""

    store: TokenStore
    codec: Codec
    batching: Batching
    loading: Loading
    _epoch: int = 0
    _plan: list[np.ndarray] = field(default_factory=list)

    @property
    def per_epoch(self) -> int:
        """How many steps an epoch has."""
        return -(-len(self.store) // self.batching.batch_size)

    def load(self, first: int, last: int) -> Iterator[StepBatches]:
        """The steps `first` to `last`, counted from 1, in whatever epochs they are."""
        yield from _load(self, range(first, last + 1), self.loading)

    def __getitem__(self, step: int) -> StepBatches:
        epoch, index = divmod(step - 1, self.per_epoch)
        ids, lengths = self._batches(epoch + 1)[index], self.store.lengths
        shares = [
            share(
                ids,
                lengths,
                rank=rank,
                size=self.loading.size,
                micro_batch_size=self.batching.micro_batch_size,
                rows=self.store.rows,
            )
            for rank in range(self.loading.size)
        ]
        own = shares[self.loading.rank]
        seeds = {"seed": self.batching.seed, "epoch": epoch + 1}
        batches = [_collate(self.store, self.codec, part, **seeds) for part in own]
        if not own:
            stand_in = _collate(self.store, self.codec, ids[:1], **seeds)
            batches = [replace(stand_in, weight=0.0, count=0.0)]
        return StepBatches(
            step=step,
            epoch=epoch + 1,
            batches=batches,
            ids=ids,
            tokens=int(lengths[ids].sum()),
            positions=sum(map(self.store.positions, chain(*shares))),
        )

    def _batches(self, epoch: int) -> list[np.ndarray]:
        if epoch != self._epoch:
            self._plan = plan(
                self.store.lengths,
                seed=self.batching.seed,
                epoch=epoch,
                batch_size=self.batching.batch_size,
                bucketing=self.batching.bucketing,
            )
            self._epoch = epoch
        return self._plan


@dataclass
class _Evaluation(Dataset[StepBatches]):
    """Index of a batch -> that batch, in StepBatches of its own."""

    store: TokenStore
    codec: Codec
    batches: list[np.ndarray]

    def __getitem__(self, index: int) -> StepBatches:
        ids = self.batches[index]
        batch = _collate(self.store, self.codec, ids, seed=0, epoch=0)
        return StepBatches(step=index, epoch=0, batches=[batch], ids=ids, tokens=0, positions=0)


def evaluation_batches(
    store: TokenStore,
    codec: Codec,
    batch_size: int,
    loading: Loading,
    *,
    ids: np.ndarray | None = None,
) -> Iterator[Batch]:
    """This rank's batches of an evaluation: every size-th of one plan, which has each row once.

    Args:
        store: The split.
        codec: Makes batches of its rows.
        batch_size: Rows that go through the model together.
        loading: Whose batches these are.
        ids: The samples; None: all.
    """
    chosen = np.arange(len(store)) if ids is None else ids
    rows = None if store.rows is None else store.rows[chosen]
    plan_ = evaluation_plan(store.lengths[chosen], batch_size=batch_size, rows=rows)
    batches = [chosen[places] for places in plan_]
    own = batches[loading.rank :: loading.size]
    for step in _load(_Evaluation(store, codec, own), range(len(own)), loading):
        yield from step.batches


def to_tensors(batch: Batch) -> Batch:
    """The batch with `inputs`, `targets` and `rows` as tensors; all else is of the host."""
    return _mapped(batch, _tensor)


def _load(
    dataset: Dataset[StepBatches], items: Sequence[int], loading: Loading
) -> Iterator[StepBatches]:
    workers = min(loading.workers, len(items))
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        collate_fn=_shared if workers else _unchanged,
        pin_memory=loading.pin_memory,
        prefetch_factor=loading.prefetch if workers else None,
        worker_init_fn=partial(_start_worker, os.getpid()),
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        generator=torch.Generator(),  # else it draws from the global one, which is the model's
    )
    # Windows, where a model is evaluated too, has neither workers nor such signals
    with warnings.catch_warnings(), _signals_held() if workers else nullcontext():
        # Python 3.12 warns of forking beside threads; workers need none: they run numpy alone
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        steps = iter(loader)
    with _ends_named(steps):
        for step in steps:
            yield replace(step, batches=[to_tensors(batch) for batch in step.batches])


class LoaderLostError(RunError):
    """A loader worker was killed, or left; going on may succeed."""


@contextmanager
def _ends_named(steps: object) -> Iterator[None]:
    """Says how a loader worker ended, and what helps.

    Raises:
        LoaderLostError: One did.
        RunError: /dev/shm was full, where a task whose batches hold tensors, not arrays, has them
            put, and torch speaks of a bus error, or of memory that is not there.
    """
    try:
        yield
    except RuntimeError as error:
        codes = [worker.exitcode for worker in getattr(steps, "_workers", ())]
        if -signal.SIGBUS in codes or re.search(r"bus error|shared memory", str(error), re.I):
            raise RunError(f"/dev/shm: {SHARED_MEMORY_FULL}; {MORE_SHARED_MEMORY}") from error
        if re.match(r"DataLoader worker \(pid", str(error)):
            number = next((-code for code in codes if code and code < 0), None)
            fate = "left"
            if number:
                fate = f"was killed by signal {number} ({signal.strsignal(number)})"
            raise LoaderLostError(
                f"a loader worker {fate}, as when memory runs out: "
                "resume=True goes on from the last checkpoint; fewer loader.workers "
                "(0: none) take less memory"
            ) from error
        raise


def _unchanged(step: Any) -> Any:
    return step


def _shared(step: Any) -> Any:
    """Puts tensors into /dev/shm here, where an error reaches the process that trains.

    torch would do it in a thread, whose errors are printed, and the batch would be waited for.
    """
    for batch in step.batches:
        for value in (*batch.inputs.values(), *batch.targets.values()):
            if isinstance(value, torch.Tensor):
                value.share_memory_()  # type: ignore[no-untyped-call]
    return step


@contextmanager
def _signals_held() -> Iterator[None]:
    """What stops a run often goes to all of its processes; workers are needed until it is saved.

    A process that is forked meanwhile holds these signals back for good. And torch's handler goes,
    which raises the end of a worker wherever this process is, in an observer or a model, say; it is
    found where the next step is waited for.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    on_end = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if threading.current_thread() is threading.main_thread() and on_end is not None:
            signal.signal(signal.SIGCHLD, on_end)


def _start_worker(parent: int, _: int) -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":  # it holds copies of sockets at which other ranks wait for an end
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # which ended before
            os._exit(0)
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_await_sigterm, daemon=True).start()
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _await_sigterm() -> None:
    """Leaves at the second SIGTERM of others, and at the first of the process that trains."""
    for _ in range(2):
        if signal.sigwaitinfo([signal.SIGTERM]).si_pid == os.getppid():
            os._exit(0)
    os._exit(128 + signal.SIGTERM)


def _collate(store: TokenStore, codec: Codec, ids: np.ndarray, *, seed: int, epoch: int) -> Batch:
    seeds = sample_seeds(ids, seed=seed, epoch=epoch)
    batch = codec.collate([store[index] for index in ids.tolist()], seeds.tolist())
    return replace(batch, ids=ids)


def _mapped(batch: Batch, change: Callable[[Any], torch.Tensor]) -> Batch:
    return replace(
        batch,
        inputs={name: change(value) for name, value in batch.inputs.items()},
        targets={name: change(value) for name, value in batch.targets.items()},
        rows=None if batch.rows is None else change(batch.rows),
    )


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        value = value.copy()  # a view of the store
    return torch.as_tensor(value)


def _pinned(value: Any) -> torch.Tensor:
    return _tensor(value).pin_memory()
