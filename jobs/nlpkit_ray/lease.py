"""A driver's side of the pool: it asks until it may use its GPUs, and stays known while it does."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import ray

from nlpkit.errors import InputError, Interrupted, RunError
from nlpkit_ray.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from nlpkit_ray.decide import Job

_POLL = 0.1  # seconds between two looks at whether to stop
_ANSWER = 10.0  # seconds in which the pool answers, or is asked anew
_PAUSE = 0.5  # seconds before a pool that was killed is asked again
_SHRUNK = 120.0  # seconds in which lost nodes may come back


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a driver wants of the pool.

    Attributes:
        job: The job as the pool sees it, without a lease.
        name: The run's name, for people.
        policy: The file that says how the pool decides, or None.
        impossible: Why the pool cannot have room for it, or "", with the nodes as they are now.
    """

    job: Job
    name: str
    policy: str | None
    impossible: Callable[[], str]


class Lease:
    """A context manager; within it `wait` gives the number of workers that may start.

    A thread keeps asking the pool from beginning to end, so that one which was killed comes to
    know of this job again.

    Args:
        claim: What is wanted.
        say: Told what it waits for.
    """

    def __init__(self, claim: Claim, say: Callable[[str], None]) -> None:
        self._claim, self._say = claim, say
        self._told = {
            **asdict(claim.job),
            "ray_job": ray.get_runtime_context().get_job_id(),
            "name": claim.name,
        }
        self._answer: dict[str, Any] | None = None
        self._closed = threading.Event()
        self._pool = open_pool(claim.policy)
        self._thread = threading.Thread(target=self._ask, name="nlpkit-lease", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.join()
        try:
            ray.get(self._pool.leave.remote(self._claim.job.id), timeout=_ANSWER)
        except ray.exceptions.RayError:  # it forgets who is silent
            pass

    @property
    def overtaken(self) -> int:
        """How often the job was overtaken so far."""
        return int((self._answer or {}).get("overtaken", 0))

    def wait(self, stop: Callable[[], bool]) -> int:
        """Returns how many workers may start, once they may.

        Raises:
            InputError: It may not wait: too many do already, or it is more than its user may have.
            Interrupted: `stop` says so first.
            RunError: Nodes were lost, and what is left has no room for it.
        """
        shown, since = "", None
        while True:
            answer = self._answer or {}
            if answer.get("refused"):
                raise InputError(answer["refused"])
            if answer.get("workers"):
                return int(answer["workers"])
            if answer.get("position"):
                line = f"waits, place {answer['position']}: {answer['reason']}"
                if line != shown:
                    self._say(line)
                shown = line
            if stop():
                raise Interrupted("ended while it waited for the pool", signal=signal.SIGTERM)
            since = self._shrunk(since)
            time.sleep(_POLL)

    def _shrunk(self, since: float | None) -> float | None:
        """Since when the pool is too small, by the monotonic clock; None: it is not."""
        if not (why := self._claim.impossible()):
            return None
        since = since or time.monotonic()
        if time.monotonic() - since > _SHRUNK:
            raise RunError(f"{why}; what was learned is saved: resume it with fewer devices")
        return since

    def _ask(self) -> None:
        told = self._told
        while not self._closed.is_set():
            try:
                question: Any = self._pool.ask.remote(told, self._answer)
                self._answer = ray.get(question, timeout=_ANSWER)
            except ray.exceptions.RayError:
                self._closed.wait(_PAUSE)
                self._pool = open_pool(self._claim.policy)
                continue
            if "refused" in self._answer:
                return
            told = {**told, **{key: self._answer[key] for key in ("workers", "overtaken")}}


def again(claim: Claim, overtaken: int) -> Claim:
    """The claim of a job that lost its place: it stands where it stood."""
    return replace(claim, job=replace(claim.job, overtaken=overtaken))
