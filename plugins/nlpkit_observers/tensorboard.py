"""The observer `tensorboard`: scalars of metrics.jsonl and the config, under RUN/tensorboard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from torch.utils.tensorboard import SummaryWriter

from nlpkit.contracts import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlpkit.cli.render import Terminal
    from nlpkit.events import Evaluated, RunEnded, RunStarted, StepEnded


def build(options: None, terminal: Terminal) -> TensorBoard:
    """The observer; it has no options."""
    return TensorBoard()


class TensorBoard(Observer):
    """Writes an event file that `tensorboard --logdir RUN/tensorboard` reads."""

    def run_started(self, event: RunStarted) -> None:
        """Opens the event file, and writes the config as a block of text."""
        after = event.steps_done + 1 if event.steps_done else None  # what came later is done again
        self._writer = SummaryWriter(str(event.run_dir / "tensorboard"), purge_step=after)
        config = json.dumps(event.config, indent=2, ensure_ascii=False)
        self._writer.add_text("config", f"```\n{config}\n```")

    def step_ended(self, event: StepEnded) -> None:
        """Writes the training line of a step, on steps that have one."""
        if event.logged is not None:
            self._write(event.logged, "train", event.step)

    def evaluated(self, event: Evaluated) -> None:
        """Writes the values of an evaluation."""
        self._write(event.logged, event.split, event.step)

    def run_ended(self, event: RunEnded) -> None:
        """Closes the event file."""
        self._writer.close()

    def _write(self, line: Mapping[str, Any], split: str, step: int) -> None:
        for name, value in line.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{split}/{name}", value, step)
        self._writer.flush()
