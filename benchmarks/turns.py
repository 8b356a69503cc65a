"""The observer `turns`: after each evaluation others train for as long, and none of it counts.

What takes its turn is in this process, in `RIVALS`: so all have the same cores in the same minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import nlpkit
from benchmarks.parts import Found
from nlpkit.contracts import Observer

RIVALS: list[Iterator[Any]] = []
"""Each trains a piece when it is asked for the next item."""
OBSERVED = {"plugins": ["benchmarks.turns"], "observers": ["turns"]}
"""What a config needs."""


def taking_turns(
    rivals: Mapping[str, Iterator[Found]], train: Callable[[], nlpkit.Run]
) -> tuple[nlpkit.Run, dict[str, list[Found]]]:
    """A run, and what each rival said of each of its pieces; the run's own have `seconds` alone.

    Args:
        rivals: By name; each has as many pieces as the run has evaluations.
        train: Makes the run, with `OBSERVED` in its config.
    """
    pieces: dict[str, list[Found]] = {name: [] for name in rivals}

    def taking(name: str) -> Iterator[None]:
        for piece in rivals[name]:
            pieces[name].append(piece)
            yield

    RIVALS[:] = map(taking, rivals)
    run = train()
    if failed := run.result["observers"]["turns"]["first_error"]:
        raise SystemExit(f"a rival failed: {failed}")
    seconds = json.loads((run.path / "turns.json").read_text())
    return run, {"nlpkit": [{"seconds": each} for each in seconds], **pieces}


def curves(found: Iterable[Found]) -> list[list[str]]:
    """Lines of a table, a piece each: steps, then of each arm seconds so far and nats."""
    rows = []
    for each in found:
        arms, spent = each["arms"], dict.fromkeys(each["arms"], 0.0)
        for at, pieces in enumerate(zip(*arms.values(), strict=True), 1):
            cells = [f"{at * each['steps'] // len(arms['nlpkit']):,} of {each['steps']:,}"]
            for name, piece in zip(arms, pieces, strict=True):
                spent[name] += piece["seconds"]
                cells += [f"{spent[name]:.1f}", f"{piece['nats']:.3f}"]
            rows.append(cells)
    return rows


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
