"""Joins what several requests ask into batches, which one thread runs while the loop goes on.

A batch is taken whenever the model is free: of all that waits, the oldest first. So nobody waits
for company, and under load batches grow by themselves. Texts that are written go together where
they are asked for in one way.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from nlpkit.errors import DataError, RunError
from nlpkit.plugin.imports import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Prediction, Row
    from nlpkit_serve.metrics import Metrics

WAITING = 1024
"""Texts that may wait; more are refused."""
SECONDS = 20
"""Time after which a text that is written ends where it is."""

_SORTED = 8
"""Batches that are taken together: sorted by length they have less padding."""


class FullError(Exception):
    """Too many texts wait already."""


@dataclass(eq=False)
class _Job:
    """What one request asks, and how far it is."""

    rows: Sequence[Row | DataError]
    generate: Mapping[str, Any]
    told: Callable[[str], None] | None
    done: asyncio.Future[list[Prediction | DataError]]
    outcomes: dict[int, Prediction | DataError] = field(default_factory=dict)
    taken: int = 0

    def settle(self, at: int, outcome: Prediction | DataError) -> None:
        """Notes the outcome of a row; with the last one the job is done."""
        self.outcomes[at] = outcome
        if len(self.outcomes) == len(self.rows) and not self.done.done():
            self.done.set_result([self.outcomes[at] for at in range(len(self.rows))])


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

    async def outcomes(
        self,
        rows: Sequence[Row | DataError],
        *,
        generate: Mapping[str, Any] | None = None,
        told: Callable[[str], None] | None = None,
    ) -> list[Prediction | DataError]:
        """A prediction, or what is wrong with the row, for each row and in their order.

        Rows of a call that is cancelled are not computed, but for those that were taken already;
        a text that is written ends then.

        Args:
            rows: What is predicted.
            generate: Of a task that writes texts, how.
            told: Is told what is sure of the text so far, whenever it has grown; for a single row.

        Raises:
            FullError: Too many rows wait already.
            RunError: The model failed.
        """
        if self._waiting() + len(rows) > WAITING:
            raise FullError
        job = _Job(rows, generate or {}, told, asyncio.get_running_loop().create_future())
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

    def _take(self) -> list[tuple[_Job, int]]:
        """What the next batch holds. Who asks more than there is room for goes to the back."""
        parts: list[tuple[_Job, int]] = []
        others, back = deque[_Job](), deque[_Job]()
        free = self._batch_size if self._model.writes else _SORTED * self._batch_size
        while free > len(parts) and self._jobs:
            job = self._jobs.popleft()
            if job.done.done():  # its request is gone, or an earlier part of it failed
                continue
            if parts and job.generate != parts[0][0].generate:
                others.append(job)
                continue
            first, job.taken = job.taken, min(job.taken + free - len(parts), len(job.rows))
            parts += ((job, at) for at in range(first, job.taken))
            if job.taken < len(job.rows):
                back.append(job)
        self._jobs = others + self._jobs + back
        return parts

    async def _batch(self, parts: list[tuple[_Job, int]]) -> None:
        loop = asyncio.get_running_loop()
        run = partial(self._write, loop) if self._model.writes else self._run
        try:
            found = await loop.run_in_executor(self._thread, run, parts)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a panic of the tokenizer is no Exception
            self.failed = True
            self._note(f"error: the model failed on {len(parts)} texts: {describe(error)}")
            for job, _ in parts:
                if not job.done.done():
                    job.done.set_exception(RunError("the model failed"))
            return
        self.failed = False
        self._metrics.batch.observe(len(parts))
        for (job, at), outcome in zip(parts, found, strict=bool(found)):
            job.settle(at, outcome)

    def _run(self, parts: list[tuple[_Job, int]]) -> list[Prediction | DataError]:
        rows = [job.rows[at] for job, at in parts]
        return list(self._model.outcomes(rows, batch_size=self._batch_size))

    def _write(self, loop: asyncio.AbstractEventLoop, parts: list[tuple[_Job, int]]) -> list[Any]:
        """Each text is answered when it ends, not with the last one: none is left to answer."""
        late = time.monotonic() + SECONDS
        steps = self._model.writing(
            [job.rows[at] for job, at in parts],
            generate=parts[0][0].generate,
            stopped=lambda row: parts[row][0].done.done() or time.monotonic() > late,
        )
        for row, said, outcome in steps:
            job, at = parts[row]
            if job.told and not isinstance(outcome, DataError):
                loop.call_soon_threadsafe(job.told, said())
            if outcome is not None:
                loop.call_soon_threadsafe(job.settle, at, outcome)
        return []
