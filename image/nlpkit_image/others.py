"""What else runs in a container: trainings that people started, which save when they are told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlpkit_image.user import Person

_GRACE = 80.0  # seconds that they have to save; docker stop --time must be longer
_POLL = 0.2
_PROC = Path("/proc")


def end_others(who: Person, servers: set[int]) -> None:
    """Ends all else of that person's, as that person.

    In a container root has no CAP_SYS_PTRACE, and cannot see which root others' processes have.
    """
    subprocess.run(
        [sys.executable, "-P", "-m", __name__, *map(str, servers)],
        **who.rights(),
        check=False,
    )


def main(servers: set[int]) -> None:
    """Sends SIGTERM to all else of this container, once, and waits for what does not ignore it.

    Sessions of SSH are left: who is logged in sees a run save. Each process gets the signal itself,
    for nobody hands it on: shells and multiplexers end without their children, or do not end.
    """
    told = [pid for pid in _others(servers) if not _ignores(pid)]
    for pid in told:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline and any(_runs(pid) for pid in told):
        time.sleep(_POLL)


def _others(servers: set[int]) -> list[int]:
    """Processes of this container, which are those that have its root."""
    left = {*_line(os.getpid()), *servers}
    found = []
    for path in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            same = os.path.samefile(path / "root", "/")
            if same and int(path.name) not in left and not _of(path, "Name").startswith("sshd"):
                found.append(int(path.name))
    return found


def _line(pid: int) -> list[int]:
    """A process, what started it, and so on."""
    line = [pid]
    with suppress(OSError):
        while pid > 1:
            pid = int(_of(_PROC / str(pid), "PPid"))
            line.append(pid)
    return line


def _ignores(pid: int) -> bool:
    """Whether SIGTERM does nothing to it, as to a shell that waits for its next line."""
    with suppress(OSError):
        return bool(int(_of(_PROC / str(pid), "SigIgn"), 16) >> (signal.SIGTERM - 1) & 1)
    return True


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return not _of(_PROC / str(pid), "State").startswith("Z")
    return False


def _of(process: Path, field: str) -> str:
    """A field of a process's status (man 5 proc)."""
    lines = (process / "status").read_text(encoding="utf-8").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main({int(word) for word in sys.argv[1:]})
