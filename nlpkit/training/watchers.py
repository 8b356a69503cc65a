"""Observers, kept from doing harm: one that raises is isolated, after three times disabled."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nlpkit.errors import PluginError
from nlpkit.plugin.imports import blaming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlpkit.contracts import Observer

LIMIT = 3
"""Failures after which an observer hears nothing more."""


@dataclass
class _Watched:
    name: str
    observer: Observer
    failures: int = 0
    first_error: str = ""
    seconds: float = 0.0


@dataclass
class Watchers:
    """Tells observers what happens, and keeps account of their failures and their time."""

    observers: Sequence[tuple[str, Observer]]
    _watched: list[_Watched] = field(init=False)

    def __post_init__(self) -> None:
        self._watched = [_Watched(name, observer) for name, observer in self.observers]

    def tell(self, method: str, event: Any) -> None:
        """Calls `method` of every observer that is still listened to."""
        for watched in self._watched:
            if watched.failures >= LIMIT:
                continue
            started = time.perf_counter()
            try:
                with blaming(method):
                    getattr(watched.observer, method)(event)
            except PluginError as error:
                watched.failures += 1
                watched.first_error = watched.first_error or str(error)  # mostly the cause of all
            watched.seconds += time.perf_counter() - started

    def report(self, elapsed: float) -> dict[str, dict[str, Any]]:
        """By observer: its share of `elapsed` seconds, its failures, whether it was disabled."""
        return {
            watched.name: {
                "share_of_time": round(watched.seconds / max(elapsed, 1e-9), 4),
                "failures": watched.failures,
                "disabled": watched.failures >= LIMIT,
                "first_error": watched.first_error,
            }
            for watched in self._watched
        }
