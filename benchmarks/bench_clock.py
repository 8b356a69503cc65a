"""The observer `clock`: how long the steps after the first few took, for benchmarks/gpu.py."""

from __future__ import annotations

import json
import time
from typing import Any

import nlpkit
from nlpkit.contracts import Observer


class Options(nlpkit.ComponentConfig):
    """How many steps do not count."""

    warmup: int = 1


class Clock(Observer):
    """Reads the time after the warm-up and after the last step, both when the device is done."""

    def __init__(self, options: Options, terminal: Any) -> None:
        self.warmup = options.warmup

    def run_started(self, event: Any) -> None:
        """Remembers where to write, and which step is the last."""
        self.path, self.last = event.run_dir / "clock.json", event.total_steps
        self.started = now()

    def step_ended(self, event: Any) -> None:
        """Looks at the clock."""
        if event.step == self.warmup:
            self.started = now()
        if event.step == self.last:
            ended = now()
            self.path.write_text(json.dumps({"seconds": ended - self.started, "ended": ended}))


def now() -> float:
    """The time at which everything that was asked of the device is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@nlpkit.hookimpl
def nlpkit_observers() -> Any:
    """The clock."""
    yield nlpkit.ObserverRecord(
        name="clock", target="bench_clock:Clock", config="bench_clock:Options"
    )
