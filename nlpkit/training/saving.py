"""Checkpoints of a run: saved by rank 0 in the background, found again by every rank."""

from __future__ import annotations

import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from nlpkit.bundle.format import WEIGHTS
from nlpkit.checkpoint.backup import backup_of
from nlpkit.checkpoint.files import folder_name, newest, settle, verify
from nlpkit.checkpoint.keeper import Keeper
from nlpkit.checkpoint.lock import alone
from nlpkit.checkpoint.resume import setting
from nlpkit.engine.weights import save_weights
from nlpkit.errors import CheckpointError, RunError
from nlpkit.files import replacing
from nlpkit.training.state import HISTORY, capture, restore

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.checkpoint.files import Checkpoint
    from nlpkit.cli.render import Terminal
    from nlpkit.config.schema import Config
    from nlpkit.contracts import Strategy
    from nlpkit.data.prepare import Prepared
    from nlpkit.events import CheckpointSaved
    from nlpkit.training.trainer import Trainer

BACKUP_PATIENCE = 60.0
"""Seconds that a backup which is behind is given when the run has ended."""


class Saving:
    """The checkpoints of one run, on one rank.

    Args:
        run_dir: The run folder.
        config: As this run resolved it.
        prepared: The data; a checkpoint remembers which.
        strategy: Rank 0 saves; what it finds is what every rank resumes from.
        terminal: Where damage is named, and where the run goes on from.
    """

    def __init__(
        self,
        run_dir: Path,
        config: Config,
        prepared: Prepared,
        strategy: Strategy,
        terminal: Terminal,
    ) -> None:
        self.run_dir, self.folder = run_dir, run_dir / "checkpoints"
        self.strategy, self.terminal = strategy, terminal
        self._about = {
            "config": config.model_dump(mode="json", exclude={"checkpoint"}),
            "data": prepared.recipe,
            "environment": setting(
                run_dir,
                threads=torch.get_num_threads(),
                ranks=strategy.size,
                device=strategy.device.type,
                replicas=strategy.replicas,
                micro_batch_size=config.train.micro_batch_size,
            ),
        }
        self._copying, self._closed, self._resumes = 0.0, False, False
        self.keeper: Keeper | None = None
        if strategy.rank == 0:
            self.keeper = Keeper(
                self.folder,
                keep=config.checkpoint.keep,
                backup=backup_of(config, run_dir.name),
                say=terminal.note,
                patience=BACKUP_PATIENCE,
            )

    def alone(self) -> AbstractContextManager[None]:
        """Holds the run folder, on rank 0; the others wait for what it finds there."""
        return alone(self.run_dir, self.terminal.note) if self.keeper else nullcontext()

    def found(self) -> bool:
        """Whether there is a good checkpoint, on every rank: the model needs no weights then."""
        whole = self.keeper and newest(self.folder, lambda _: None)
        self._resumes = bool(self.strategy.broadcast(whole is not None))
        return self._resumes

    def resume(self, trainer: Trainer) -> None:
        """Puts the trainer where the newest good checkpoint is, if there is one, and says so."""
        history = self.run_dir / HISTORY
        found = None
        if self.keeper:
            settle(self.folder)
            found = newest(self.folder, self.terminal.note)
        name = self.strategy.broadcast(found.path.name if found else None)
        if name is None:
            if self._resumes:
                raise RunError(f"{self.folder}: its checkpoint is gone; start once more")
            if self.keeper:
                history.unlink(missing_ok=True)
            return
        restore(trainer, self.folder / name)
        if found:
            with replacing(history) as partial:
                shutil.copyfile(found.path / HISTORY, partial)
            self._announce(found, trainer)
        self._check_best(trainer)

    def save(self, trainer: Trainer, best: bool) -> None:
        """Hands a checkpoint of this moment to the writer."""
        if self.keeper:
            progress = trainer.progress
            best_step = None if progress.best is None else progress.best_step
            about = {**self._about, "best_step": best_step}
            started = time.perf_counter()
            files = capture(trainer, self.run_dir / HISTORY)
            self._copying += time.perf_counter() - started
            self.keeper.save(progress.step, files, about, best=best)

    def saved(self) -> list[CheckpointSaved]:
        """What has been written since this was last asked."""
        return self.keeper.finished() if self.keeper else []

    def write_best(self, trainer: Trainer, bundle: Path) -> None:
        """Gives the bundle the best weights, or the last ones where there is no best; a barrier."""
        self.wait()
        self._check_best(trainer)
        if self.keeper:
            if trainer.progress.best is None:
                save_weights(bundle / WEIGHTS, trainer.module.model)
            else:
                with replacing(bundle / WEIGHTS) as partial:
                    shutil.copyfile(self._of(trainer.progress.best_step) / WEIGHTS, partial)
        self.strategy.broadcast(None)

    def wait(self) -> None:
        """Returns once everything that was saved is on disk. Raises RunError where it cannot be."""
        if self.keeper:
            self.keeper.wait()

    def close(self) -> None:
        """Ends the writer; copies that are under way get some time."""
        if self.keeper and not self._closed:
            self._closed = True
            self.keeper.close()

    def report(self) -> dict[str, Any]:
        """What was saved, and how long training stood still for it, for result.json."""
        if not self.keeper:
            return {}
        report = self.keeper.report()
        return {**report, "seconds_blocked": round(self._copying + report["seconds_blocked"], 3)}

    def _of(self, step: int) -> Path:
        return self.folder / folder_name(step)

    def _check_best(self, trainer: Trainer) -> None:
        """Forgets a best model whose checkpoint is damaged, and says so."""
        lost = False
        if self.keeper and trainer.progress.best is not None:
            try:
                verify(self._of(trainer.progress.best_step))
            except CheckpointError as error:
                self.terminal.note(f"{error}; the best model is chosen anew from here on")
                lost = True
        if self.strategy.broadcast(lost):
            trainer.progress.best = trainer.best = None
            trainer.progress.best_step = trainer.progress.evaluations_since_best = 0

    def _announce(self, found: Checkpoint, trainer: Trainer) -> None:
        total = trainer.total_steps
        self.terminal.note(f"resumes after step {found.step:,} of {total:,}, from {found.path}")
        before, now = found.manifest["environment"], self._about["environment"]
        changed = [
            f"{name} {_shown(before.get(name))} became {_shown(value)}"
            for name, value in now.items()
            if value != before.get(name)
        ]
        if changed:
            self.terminal.note(f"warning: {', '.join(changed)}: no longer exact to the bit")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
