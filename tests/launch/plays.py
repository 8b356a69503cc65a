"""What ranks do in tests of the launcher, and how these look at processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

STEPS = """
    import os, time
    from pathlib import Path

    here = Path(__file__).parent

    def steps(rank, stop, at, count):
        (here / f"pid-{rank}").write_text(str(os.getpid()))
        for step in range(1, count + 1):
            at(step)
            time.sleep(0.01)
            if stop():
                (here / f"saved-{rank}").touch()
                return False
        return True
"""


def play_of(source: str) -> str:
    """The text of a play.py: `steps` and what `source` makes of it."""
    return dedent(STEPS) + dedent(source)


def pids(folder: Path, ranks: int = 2) -> list[int]:
    """The processes of the ranks, once all have written them down."""
    files = [folder / f"pid-{rank}" for rank in range(ranks)]
    wait_for(lambda: all(file.exists() and file.read_text() for file in files))
    return [int(file.read_text()) for file in files]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
