"""The observer `turns`: after each evaluation others train for as long, and none of it counts.

What takes its turn is in this process, in `RIVALS`: so all have the same cores in the same minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import nlpkit
from nlpkit.contracts import Observer

RIVALS: list[Iterator[Any]] = []
"""Each trains a piece when it is asked for the next item."""


class Laps:
    """Seconds of steps alone; the first of a piece is taken to be as long as the others.

    It may have an evaluation or a checkpoint before it.
    """

    def __init__(self) -> None:
        self._times: list[float] = []

    def step(self) -> None:
        """To be told at the end of each step."""
        self._times.append(time.perf_counter())

    def piece(self) -> float:
        """The seconds of the steps since it was last asked, two at least."""
        times, self._times = self._times, []
        return (times[-1] - times[0]) * len(times) / (len(times) - 1)


class Turns(Observer):
    """Writes into turns.json how long the steps between two evaluations took."""

    def __init__(self, options: None, terminal: Any) -> None:
        self.laps, self.pieces = Laps(), list[float]()

    def run_started(self, event: Any) -> None:
        """Remembers where to write."""
        self.path = event.run_dir / "turns.json"

    def step_ended(self, event: Any) -> None:
        """Looks at the clock."""
        self.laps.step()

    def evaluated(self, event: Any) -> None:
        """Gives the others their turn."""
        self.pieces.append(self.laps.piece())
        self.path.write_text(json.dumps(self.pieces))
        for rival in RIVALS:
            next(rival)


@nlpkit.hookimpl
def nlpkit_observers() -> Any:
    """The observer."""
    yield nlpkit.ObserverRecord(name="turns", target="benchmarks.turns:Turns")
