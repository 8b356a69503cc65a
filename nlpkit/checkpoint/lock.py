"""One process at a time writes in a run folder."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nlpkit.errors import RunError

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
    folder = os.open(run_dir, os.O_RDONLY)  # the folder itself: its files come and go
    try:
        deadline = time.monotonic() + PATIENCE
        waiting = False
        while not _locked(folder):
            if time.monotonic() > deadline:
                raise RunError(f"{run_dir}: another process is training this run")
            if not waiting:
                say(f"{run_dir}: waits until another process leaves it")
                waiting = True
            time.sleep(0.1)
        yield
    finally:
        os.close(folder)


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
