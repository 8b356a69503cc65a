"""A rank's process: what it hears from the launcher, what it leaves for it, and how it ends.

The launcher writes to the rank's stdin to stop it; the end of that pipe says that the launcher is
gone. In the launcher's folder each rank leaves the step that it is in, and its error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from nlpkit import errors
from nlpkit.cli.render import Terminal
from nlpkit.errors import InputError, NlpkitError, RunError, of_system
from nlpkit.signals import SIGNALS, interruptible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STOPPED = (128, *(128 + number for number in SIGNALS))
"""The exit codes of a rank that was stopped, and saved: by others, or by a signal of its own."""
PYTHONPATH = "PYTHONPATH_BEFORE"
"""Where the launcher keeps the user's own PYTHONPATH; ranks need its whole path to start."""
_ALONE = 60.0  # seconds in which a rank saves after its launcher is gone
_BY_MESSAGE = ("CheckpointError", "BundleError", "PluginError", "InputError", "NonFiniteError")


@dataclass(frozen=True)
class Notes:
    """What a rank leaves in the launcher's folder: the step that it is in, and its error."""

    folder: Path
    rank: int

    @property
    def step(self) -> int:
        """The step that began last; 0 before the first."""
        path = self.folder / f"step-{self.rank}"
        return int.from_bytes(path.read_bytes(), "little") if path.exists() else 0

    @property
    def error(self) -> dict[str, Any] | None:
        """What `leave` wrote: time, kind (a class of `nlpkit.errors`), text, traceback."""
        with suppress(FileNotFoundError):
            return dict(json.loads((self.folder / f"error-{self.rank}").read_bytes()))
        return None

    def pen(self) -> Callable[[int], None]:
        """Writes down each step that it is told, with one system call."""
        file = os.open(self.folder / f"step-{self.rank}", os.O_WRONLY | os.O_CREAT)

        def at(step: int) -> None:
            os.pwrite(file, step.to_bytes(8, "little"), 0)

        return at

    def leave(self, error: BaseException) -> None:
        """Leaves an error, as the nearest class that a message alone can build."""
        kinds = (kind for kind in _BY_MESSAGE if isinstance(error, getattr(errors, kind)))
        bug = not isinstance(error, NlpkitError | OSError)
        note = {
            "time": time.monotonic(),  # one clock for all processes of a machine
            "kind": next(kinds, "RunError"),
            "text": _text(error),
            "traceback": "".join(traceback.format_exception(error)) if bug else "",
        }
        partial = self.folder / f"error-{self.rank}.partial"
        partial.write_text(json.dumps(note), encoding="utf-8")
        partial.replace(partial.with_suffix(""))


def serve(
    run: Callable[[Callable[[], bool], Callable[[int], None]], bool], folder: Path | None
) -> NoReturn:
    """Does `run(stop, at)` and ends this process: 0 finished, 1 or 2 failed, or one of STOPPED.

    Args:
        run: Trains; its result says whether it finished.
        folder: The launcher's. None where another than nlpkit's started this process, torchrun say:
            an error is shown then, as the command line does.
    """
    code, told = 1, threading.Event()
    notes = Notes(folder, int(os.environ["RANK"])) if folder else None
    if notes:
        os.environ["PYTHONPATH"] = os.environ.pop(PYTHONPATH, "")
        threading.Thread(target=_listen, args=[told], daemon=True).start()
    with interruptible() as signals, signals.deferred():
        try:
            at = notes.pen() if notes else lambda step: None
            finished = run(lambda: told.is_set() or signals(), at)
            code = 0 if finished else 128 + (signals.signal or 0)
        except BaseException as error:
            code = 2 if isinstance(error, InputError) else 1
            notes.leave(error) if notes else _show(error)
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            # Not the interpreter's own end: threads of gloo may outlive it, and then it aborts.
            os._exit(code)


def _listen(told: threading.Event) -> None:
    """Hears the launcher's word on stdin; where the launcher is gone, leaves in the end."""
    word = os.read(0, 1)
    if not word:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # nobody may read any more, and saving must not fail for a note
        os.dup2(nowhere, 2)
    told.set()
    while word:
        word = os.read(0, 1)
    time.sleep(_ALONE)
    os.killpg(0, signal.SIGKILL)


def _text(error: BaseException) -> str:
    if isinstance(error, NlpkitError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return of_system(error)
    return f"{type(error).__name__}: {error}"


def _show(error: BaseException) -> None:
    if isinstance(error, NlpkitError | OSError):
        Terminal().error(error if isinstance(error, NlpkitError) else RunError(_text(error)))
    else:
        sys.excepthook(type(error), error, error.__traceback__)
