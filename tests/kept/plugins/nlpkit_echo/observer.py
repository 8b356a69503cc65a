"""The observer `echo_ledger`: lines in RUN/ledger.txt, one for each event but steps."""

from __future__ import annotations

from nlpkit.contracts import Observer


class Ledger(Observer):
    def __init__(self, options, terminal):
        self.steps = 0

    def run_started(self, event):
        self.path = event.run_dir / "ledger.txt"
        self.write(f"started {event.total_steps}")

    def step_ended(self, event):
        self.steps += 1

    def evaluated(self, event):
        self.write(f"evaluated {event.split}")

    def run_ended(self, event):
        self.write(f"ended after {self.steps}")

    def write(self, line):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
