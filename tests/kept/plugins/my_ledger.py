"""The observer `ledger`: a line for each evaluation, in ledger.txt of the run folder."""

import nlpkit
from nlpkit.contracts import Observer


class Ledger(Observer):
    def __init__(self, options, terminal):
        self.terminal = terminal

    def run_started(self, event):
        self.path = event.run_dir / "ledger.txt"

    def evaluated(self, event):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"step {event.step}: {event.split} loss {event.logged['loss']:.4f}\n")

    def run_ended(self, event):
        self.terminal.note(f"ledger: {self.path}")


@nlpkit.hookimpl
def nlpkit_observers():
    yield nlpkit.ObserverRecord(name="ledger", target="my_ledger:Ledger")
