"""Copies checkpoints to a backup beside training, which neither waits for it nor fails by it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from nlpkit.checkpoint.files import folder_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nlpkit.checkpoint.backup import Backup


class Copier:
    """A thread that copies what waits, the newest first, for as long as it takes.

    A copy makes older ones needless that would not be kept: they stop waiting.

    Args:
        backup: Where to.
        folder: Where the checkpoints are.
        limit: How many may wait; then the oldest is dropped, but not the best.
        say: Told warnings, one line each.
        patience: Seconds given to `close`; half of them is the longest pause after a failure.
    """

    def __init__(
        self,
        backup: Backup,
        folder: Path,
        *,
        limit: int,
        say: Callable[[str], None],
        patience: float,
    ) -> None:
        self._backup, self._folder, self._say = backup, folder, say
        self._limit, self._patience = limit, patience
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._wanted: set[int] = set()
        self._copying: int | None = None
        self._closing = self._given_up = False
        self._copied, self._failed = 0, 0
        self._dropped: list[str] = []
        self._thread = threading.Thread(target=self._work, name="nlpkit-backup", daemon=True)
        self._thread.start()

    def add(self, steps: set[int], *, wanted: set[int], best: int | None) -> None:
        """More checkpoints wait. `wanted`: those that stay, here and there."""
        dropped = []
        with self._changed:
            self._waiting.update(steps)
            self._wanted = wanted
            if self._copying in steps:  # written anew meanwhile: what is being copied is stale
                self._copying = None
            while len(self._waiting) > self._limit:
                oldest = min(self._waiting - {best, self._copying})
                self._waiting.remove(oldest)
                dropped.append(folder_name(oldest))
            self._dropped += dropped
            self._changed.notify_all()
        for name in dropped:
            self._say(f"warning: backup {self._backup}: {name} is never copied: too many wait")

    def waiting(self) -> set[int]:
        """The steps that are not copied yet."""
        with self._changed:
            return set(self._waiting)

    def close(self) -> None:
        """Gives what waits some time, then gives up and says what was not copied."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(self._patience)
        with self._changed:
            self._given_up = True
            self._changed.notify_all()
        if names := self.report()["waiting"]:
            self._say(
                f"warning: backup {self._backup}: not copied in time: {', '.join(names)}; "
                f"they are in {self._folder}"
            )

    def report(self) -> dict[str, Any]:
        """What was copied and what was not, by name; `failed` counts attempts."""
        with self._changed:
            return {
                "copied": self._copied,
                "failed": self._failed,
                "dropped": list(self._dropped),
                "waiting": [folder_name(step) for step in sorted(self._waiting)],
            }

    def _work(self) -> None:
        failures = 0
        while (step := self._next(failures)) is not None:
            try:
                self._backup.copy(self._folder / folder_name(step))
            except Exception as error:
                failures += 1
                self._failed += 1
                if failures == 1:
                    self._warn(f"{folder_name(step)} could not be copied, is tried again", error)
            else:
                failures = 0
                self._finish(step)

    def _next(self, failures: int) -> int | None:
        """The step to copy, after a pause that grows with each failure; None at the end."""
        with self._changed:
            self._copying = None
            if failures:
                pause = self._patience * min(2.0 ** (failures - 7), 0.5)
                self._changed.wait_for(lambda: self._given_up, pause)
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._copying = None if self._given_up else max(self._waiting, default=None)
            return self._copying

    def _finish(self, step: int) -> None:
        with self._changed:
            self._copied += 1
            if self._copying == step:
                self._waiting = {
                    each
                    for each in self._waiting
                    if each != step and (each > step or each in self._wanted)
                }
            self._copying = None
            wanted, missing = self._wanted, self._wanted & self._waiting
        try:
            if not missing:  # else what they replace may be the only one of its kind there
                self._backup.prune(step, wanted)
        except Exception as error:
            self._warn("old checkpoints could not be removed", error)

    def _warn(self, what: str, error: Exception) -> None:
        reason = self._backup.reason_of(error)
        self._say(f"warning: backup {self._backup}: {what} ({reason})")
