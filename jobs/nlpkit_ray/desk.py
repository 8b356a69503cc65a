"""The desk of a run: an actor through which its driver and its ranks tell each other things.

Only the driver hears a signal, and only ranks know what to show, and why they failed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from nlpkit.errors import NlpkitError

_CALLS = 1000
"""Calls that may be under way at once: each rank has two that wait for a word."""


class Desk:
    """Asynchronous; it belongs to the driver and ends with it."""

    def __init__(self) -> None:
        self._stop, self._failed, self._said = (asyncio.Event() for _ in range(3))
        self._text = ""
        self._verdict: NlpkitError | None = None

    async def stop(self) -> None:
        """Tells all ranks to save and leave."""
        self._stop.set()

    async def stopping(self) -> None:
        """Returns once they should."""
        await self._stop.wait()

    async def failed(self) -> None:
        """Returns once there is a verdict."""
        await self._failed.wait()

    async def say(self, text: str) -> None:
        """Takes what rank 0 writes to its terminal."""
        self._text += text
        self._said.set()

    async def hear(self) -> str:
        """What was said since this was asked last; waits until there is something."""
        await self._said.wait()
        self._said.clear()
        text, self._text = self._text, ""
        return text

    async def fail(self, verdict: NlpkitError) -> None:
        """Takes an error that starting again cannot cure; the first one counts."""
        self._verdict = self._verdict or verdict
        self._failed.set()

    async def verdict(self) -> NlpkitError | None:
        """That error."""
        return self._verdict


def here() -> dict[str, str]:
    """The label selector of this node."""
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


def open_desk() -> ActorHandle[Any]:
    """A desk for one run, on this node: another one may be lost while the run goes on."""
    desk: Any = ray.remote(Desk)
    options = {"num_cpus": 0, "max_concurrency": _CALLS, "label_selector": here()}
    opened: ActorHandle[Any] = desk.options(**options).remote()
    return opened
