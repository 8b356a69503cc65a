"""Observers, kept from doing harm: one that raises is isolated, after three times disabled."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nlpkit.config.resolve import build
from nlpkit.contracts import Observer
from nlpkit.errors import NlpkitError, PluginError, RunError
from nlpkit.plugin.imports import blaming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlpkit.cli.render import Terminal
    from nlpkit.config.schema import Component
    from nlpkit.plugin.host import Host

LIMIT = 3
"""Failures after which an observer hears nothing more."""


def build_observer(component: Component, host: Host, terminal: Terminal) -> Observer | NlpkitError:
    """The observer that a config names, or what kept it from being built: that ends no run.

    Raises:
        InputError: What it says itself of its options.
    """
    try:
        built: Observer = build(component, "observer", host, terminal)
    except (PluginError, RunError) as error:
        return error
    if isinstance(built, Observer):
        return built
    who = f'observer "{component.name}"'
    return PluginError(f"{who} is built as {type(built).__name__}, not nlpkit.contracts.Observer")


@dataclass
class _Watched:
    name: str
    observer: Observer | NlpkitError
    failures: int = 0
    first_error: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.observer, NlpkitError):
            self.fail(self.observer)

    @property
    def disabled(self) -> bool:
        return self.failures >= LIMIT or isinstance(self.observer, NlpkitError)

    def fail(self, error: NlpkitError) -> None:
        self.failures += 1
        self.first_error = self.first_error or str(error)  # the cause of those that follow, mostly


@dataclass
class Watchers:
    """Tells observers what happens, and keeps account of their failures and their time."""

    observers: Sequence[tuple[str, Observer | NlpkitError]]
    _watched: list[_Watched] = field(init=False)

    def __post_init__(self) -> None:
        self._watched = [_Watched(name, observer) for name, observer in self.observers]

    def tell(self, method: str, event: Any) -> None:
        """Calls `method` of every observer that is still listened to."""
        for watched in self._watched:
            if watched.disabled:
                continue
            started = time.perf_counter()
            try:
                with blaming(method):
                    getattr(watched.observer, method)(event)
            except PluginError as error:
                watched.fail(error)
            watched.seconds += time.perf_counter() - started

    def report(self, elapsed: float) -> dict[str, dict[str, Any]]:
        """By observer: its share of `elapsed` seconds, its failures, whether it was disabled."""
        return {
            watched.name: {
                "share_of_time": round(watched.seconds / max(elapsed, 1e-9), 4),
                "failures": watched.failures,
                "disabled": watched.disabled,
                "first_error": watched.first_error,
            }
            for watched in self._watched
        }
