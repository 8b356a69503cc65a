"""The observer `ledger`: a line for each step with its sample ids; it can end its own process."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any

import nlpkit
from nlpkit.contracts import Observer


class Options(nlpkit.ComponentConfig):
    kill_at: int | None = None
    delay: float = 0.0


class Ledger(Observer):
    def __init__(self, options: Options, terminal: Any) -> None:
        self.options = options

    def run_started(self, event: Any) -> None:
        self.path = event.run_dir / "ledger.jsonl"

    def step_ended(self, event: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            line = {"step": event.step, "epoch": event.epoch, "ids": event.ids.tolist()}
            file.write(json.dumps(line) + "\n")
        if event.step == self.options.kill_at:
            threading.Timer(self.options.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


@nlpkit.hookimpl
def nlpkit_observers() -> Any:
    yield nlpkit.ObserverRecord(
        name="ledger", target="ledger_observer:Ledger", config="ledger_observer:Options"
    )
