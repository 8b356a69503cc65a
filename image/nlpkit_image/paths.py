"""Where things are in a container. Nothing that took GPU hours lies outside `data` and `models`."""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

WORKSPACE = Path(os.environ.get("NLPKIT_WORKSPACE") or "/workspace")
KEPT = (
    "data/raw",
    "data/processed",
    "models/runs",
    "models/final",
    "models/hub",
    "notebooks",
)
"""Folders of the workspace that should be on a mount."""

STATE = Path("/run/nlpkit")
"""What a start as root wrote: root's folder, where others may read what is theirs."""

INSTALLED = Path("/opt/nlpkit")
STARTER = INSTALLED / "share" / "starter.ipynb"
SETTINGS = Path("/etc/nlpkit")
"""Where people mount what is theirs: authorized_keys, token, and the host keys of SSH in `ssh`."""


class StartError(Exception):
    """The container cannot start; the message says why, and what to do."""


@cache
def mount_points(table: str = "") -> frozenset[Path]:
    """Where something is mounted.

    Args:
        table: The lines of /proc/self/mountinfo (man 5 proc), by default this process's.
    """
    lines = (table or Path("/proc/self/mountinfo").read_text(encoding="utf-8")).splitlines()
    points = {Path(line.split()[4].replace("\\040", " ")) for line in lines}  # a blank's code
    return frozenset(points - {Path("/")})


def mounted(path: Path, table: str = "") -> bool:
    """Whether an absolute path is on a mount, not in the container's own layer."""
    return not mount_points(table).isdisjoint((path, *path.parents))


def unmounted(table: str = "") -> list[str]:
    """The folders of the workspace that are gone with the container."""
    return [name for name in KEPT if not mounted(WORKSPACE / name, table)]


def secret(path: Path) -> str:
    """What a file of a secret holds, without white space around it.

    Raises:
        StartError: It cannot be read, is empty, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise StartError(f"{path}: cannot be read ({error})") from None
    if mode & stat.S_IROTH:
        raise StartError(f"{path}: everybody may read this secret; chmod 600 it, where it is kept")
    if not text:
        raise StartError(f"{path}: is empty")
    return text


def write_private(path: Path, text: str, owner: tuple[int, int]) -> Path:
    """A file that its owner alone may read, put in the place of an older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)
    if os.geteuid() == 0:
        os.chown(path, *owner)
    return path
