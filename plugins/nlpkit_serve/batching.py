"""Joins what several requests ask into batches, which one thread runs while the loop goes on.

A batch is taken whenever the model is free: of all that waits, the oldest first. So nobody waits
for company, and under load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nlpkit.errors import RunError
from nlpkit.plugin.imports import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Prediction, Row
    from nlpkit.errors import DataError
    from nlpkit_serve.metrics import Metrics

WAITING = 1024
"""Texts that may wait; more are refused."""

_SORTED = 8
"""Batches that are taken together: sorted by length they have less padding."""


class FullError(Exception):
    """Too many texts wait already."""


@dataclass(eq=False)
class _Job:
    """What one request asks, and how far it is."""

    rows: Sequence[Row | DataError]
    done: asyncio.Future[list[Prediction | DataError]]
    outcomes: list[Prediction | DataError] = field(default_factory=list)
    taken: int = 0


class Batcher:
    """Predicts for many requests at once.

    Args:
        model: What predicts, tokenizer included; only one thread of this ever runs it.
        metrics: Learns how large batches are, and how many texts wait.
        batch_size: Texts that go through the model together, at most.
        note: Is told, in a line, how the model failed.

    Attributes:
        failed: Whether the last batch failed.
    """

    failed = False

    def __init__(
        self, model: Model, metrics: Metrics, *, batch_size: int, note: Callable[[str], None]
    ) -> None:
        self._model, self._metrics = model, metrics
        self._batch_size, self._note = batch_size, note
        metrics.waiting.set_function(self._waiting)
        self._jobs: deque[_Job] = deque()
        self._thread = ThreadPoolExecutor(1, "nlpkit-model")
        self._worker: asyncio.Task[None] | None = None

    async def outcomes(self, rows: Sequence[Row | DataError]) -> list[Prediction | DataError]:
        """A prediction, or what is wrong with the row, for each row and in their order.

        Rows of a call that is cancelled are not computed, but for those that were taken already.

        Raises:
            FullError: Too many rows wait already.
            RunError: The model failed.
        """
        if self._waiting() + len(rows) > WAITING:
            raise FullError
        job = _Job(rows, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await job.done
        finally:  # who has left waits no longer
            if job in self._jobs:
                self._jobs.remove(job)

    def _waiting(self) -> int:
        return sum(len(job.rows) - job.taken for job in self._jobs)

    async def _work(self) -> None:
        """Runs batches until nobody waits."""
        try:
            while parts := self._take():
                await self._batch(parts)
        finally:
            self._worker = None

    def _take(self) -> list[tuple[_Job, Sequence[Row | DataError]]]:
        """What the next batch holds. Who asks more than there is room for goes to the back."""
        parts = []
        free = _SORTED * self._batch_size
        for _ in range(len(self._jobs)):
            if not free:
                break
            job = self._jobs.popleft()
            if job.done.done():  # its request is gone, or an earlier part of it failed
                continue
            rows = job.rows[job.taken : job.taken + free]
            job.taken += len(rows)
            free -= len(rows)
            parts.append((job, rows))
            if job.taken < len(job.rows):
                self._jobs.append(job)
        return parts

    async def _batch(self, parts: list[tuple[_Job, Sequence[Row | DataError]]]) -> None:
        together = [row for _, rows in parts for row in rows]
        loop = asyncio.get_running_loop()
        try:
            outcomes = iter(await loop.run_in_executor(self._thread, self._run, together))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a panic of the tokenizer is no Exception
            self.failed = True
            self._note(f"error: the model failed on {len(together)} texts: {describe(error)}")
            for job, _ in parts:
                if not job.done.done():
                    job.done.set_exception(RunError("the model failed"))
            return
        self.failed = False
        self._metrics.batch.observe(len(together))
        for job, rows in parts:
            job.outcomes += [next(outcomes) for _ in rows]
            if len(job.outcomes) == len(job.rows) and not job.done.done():
                job.done.set_result(job.outcomes)

    def _run(self, rows: list[Row | DataError]) -> list[Prediction | DataError]:
        return list(self._model.outcomes(rows, batch_size=self._batch_size))
