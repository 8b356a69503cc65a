"""One process at a time writes in a run folder."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

from nlpkit.errors import RunError
from nlpkit.files import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 60.0
"""Seconds that another process may take to save and leave."""


@contextmanager
def alone(run_dir: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds a run folder; one that was told to stop is given time to leave it.

    Raises:
        RunError: Another process trains in it.
    """
    if is_held(run_dir):
        say(f"{run_dir}: waits until another process leaves it")
    with ExitStack() as held:
        try:
            held.enter_context(locked(run_dir / ".lock", PATIENCE))
        except TimeoutError:
            raise RunError(f"{run_dir}: another process is training this run") from None
        yield


def is_held(run_dir: Path) -> bool:
    """Whether a process trains in a run folder now."""
    lock = run_dir / ".lock"
    try:
        with locked(lock) if lock.exists() else nullcontext():
            return False
    except TimeoutError:
        return True
    except OSError:  # of somebody else's, who may be training
        return False
