"""The observer `progress`: a bar over optimizer steps, and a line for each evaluation."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from nlpkit.contracts import Observer

if TYPE_CHECKING:
    from nlpkit.cli.render import Bar, Terminal
    from nlpkit.events import Evaluated, RunEnded, RunStarted, StepEnded


def build(options: None, terminal: Terminal) -> Progress:
    """The observer; it has no options."""
    return Progress(terminal)


class Progress(Observer):
    """Shows how far training is."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._shown = ExitStack()
        self._bar: Bar | None = None

    def run_started(self, event: RunStarted) -> None:
        """Opens the bar."""
        self._monitor = event.config["eval"]["monitor"]
        label, total = f"training on {event.device}", event.total_steps
        bar = self._terminal.bar(label, total, "steps", done=event.steps_done)
        self._bar = self._shown.enter_context(bar)

    def step_ended(self, event: StepEnded) -> None:
        """Counts a step, and shows its loss."""
        if self._bar is not None:
            skipped = "" if event.taken else " (skipped)"
            self._bar.advance(1, f"loss {event.loss:.4f}{skipped}")

    def evaluated(self, event: Evaluated) -> None:
        """Writes the loss, the first metric and the monitored one on a line."""
        values = {n: value for n, value in event.logged.items() if isinstance(value, float)}
        names = [*list(values)[:2], *([self._monitor] if self._monitor in list(values)[2:] else [])]
        text = "  ".join(f"{name} {values[name]:.4f}" for name in names)
        where = f"epoch {event.epoch}  step {event.step:,}  {event.split}"
        self._terminal.note(f"{where}  {text}{'  (best so far)' if event.best else ''}")

    def run_ended(self, event: RunEnded) -> None:
        """Closes the bar."""
        self._shown.close()
