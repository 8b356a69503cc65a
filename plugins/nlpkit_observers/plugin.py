"""Observers: a progress bar, and TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_observers() -> Iterator[nlpkit.ObserverRecord]:
    """`progress` and `tensorboard`."""
    yield nlpkit.ObserverRecord(
        name="progress",
        target="nlpkit_observers.progress:build",
        summary="A bar with loss, rate and remaining time",
    )
    yield nlpkit.ObserverRecord(
        name="tensorboard",
        target="nlpkit_observers.tensorboard:build",
        summary="Scalars of metrics.jsonl, and the config",
        extra="tensorboard",
    )
