"""Saves checkpoints behind training's back, and keeps the newest, the best and the uncopied."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nlpkit.checkpoint.copier import Copier
from nlpkit.checkpoint.files import folder_name, listed, reason_of, remove, verify, write
from nlpkit.errors import CheckpointError, RunError
from nlpkit.events import CheckpointSaved
from nlpkit.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nlpkit.checkpoint.backup import Backup
    from nlpkit.checkpoint.files import Files


class Keeper:
    """Writes the checkpoints of one run, in one thread, and has another one copy them.

    Args:
        folder: Where the checkpoints are.
        keep: How many of the newest stay.
        backup: Where they are copied to.
        say: Told warnings, one line each, from any thread.
        patience: Seconds that a backup is given at the end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        backup: Backup | None,
        say: Callable[[str], None],
        patience: float = 60.0,
    ) -> None:
        self._folder, self._keep = folder, keep
        self._copier = (
            Copier(backup, folder, limit=keep + 2, say=say, patience=patience) if backup else None
        )
        self._writer = ThreadPoolExecutor(1, "nlpkit-checkpoint")
        self._writing: Future[None] | None = None
        self._finished: deque[CheckpointSaved] = deque()
        self._whole: set[int] = set()
        self._wanted: set[int] = set()
        self._saved, self._blocked = 0, 0.0

    def save(self, step: int, files: Files, about: Mapping[str, Any], *, best: bool) -> None:
        """Hands a checkpoint over to the writer, after the one before is written.

        Args:
            step: The optimizer steps that are done.
            files: By name, what writes a file; called later, in another thread.
            about: What else the manifest says; its `best_step` is kept too.
            best: Whether it holds the best model so far.

        Raises:
            RunError: The one before could not be written.
        """
        self.wait()
        self._writing = self._writer.submit(self._commit, step, dict(files), dict(about), best)

    def wait(self) -> None:
        """Returns when nothing is being written. Raises RunError as `save` does, once."""
        if self._writing is None:
            return
        started = time.monotonic()
        try:
            error = self._writing.exception()
        finally:
            self._blocked += time.monotonic() - started
        self._writing = None
        if error:
            raise error

    def finished(self) -> list[CheckpointSaved]:
        """What was committed since the last call. Raises RunError as `save` does, once."""
        if self._writing is not None and self._writing.done():
            self.wait()
        return [self._finished.popleft() for _ in range(len(self._finished))]

    def close(self) -> None:
        """Ends both threads: what is written is awaited, what is copied only for a while.

        Raises:
            RunError: The last one could not be written.
        """
        try:
            self.wait()
        finally:
            self._writer.shutdown()
            if self._copier:
                self._copier.close()
                with suppress(OSError):  # the next run removes it
                    self._prune()

    def report(self) -> dict[str, Any]:
        """What was done, as result.json has it."""
        return {
            "saved": self._saved,
            "seconds_blocked": self._blocked,
            "backup": self._copier.report() if self._copier else None,
        }

    def _commit(self, step: int, files: Files, about: Mapping[str, Any], best: bool) -> None:
        try:
            path = write(self._folder, step, files, about)
            self._saved += 1
            self._finished.append(CheckpointSaved(step=step, path=path, best=best))
            self._retain(step, about.get("best_step"))
        except Exception as error:
            raise RunError(
                f"{self._folder / folder_name(step)}: the checkpoint could not be saved "
                f"({reason_of(error)}); make room or mend it, then go on with resume=True"
            ) from error

    def _retain(self, newest: int, best: int | None) -> None:
        """Decides what stays, says so to the copier and to people, and removes the rest."""
        new = {newest}
        if not self._whole:  # some may be left from before; what is damaged is let alone
            found = (each for each in listed(self._folder) if each[0] != newest)
            new |= {step for step, path in found if _is_whole(path)}
        self._whole |= new
        latest = sorted(self._whole, reverse=True)[: self._keep]
        self._wanted = {newest, *latest} | (self._whole & {best})
        if self._copier:
            self._copier.add(new, wanted=self._wanted, best=best)
        self._prune()  # before anything else is written: the disk may be full now
        for name, step in (("last", newest), ("best", best)):
            if step in self._whole:
                with replacing(self._folder / name) as partial:
                    partial.write_text(f"{folder_name(step)}\n", encoding="utf-8")
            else:
                (self._folder / name).unlink(missing_ok=True)

    def _prune(self) -> None:
        waiting: set[int] = self._copier.waiting() if self._copier else set()
        for step in self._whole - self._wanted - waiting:
            with suppress(FileNotFoundError):  # somebody made room
                remove(self._folder / folder_name(step))
            self._whole.remove(step)


def _is_whole(path: Path) -> bool:
    try:
        verify(path)
    except CheckpointError:
        return False
    return True
