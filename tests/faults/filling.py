"""A disk that fills up while a checkpoint is written: a small tmpfs, or a limit on files' sizes."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from nlpkit.checkpoint.files import newest
from nlpkit.checkpoint.keeper import Keeper
from nlpkit.errors import RunError
from tests.checkpoint.small import about, files
from tests.faults.outcome import Outcome, judge, saves

PAGE = 4096


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of 256 KiB at `folder`; false where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = not subprocess.run(command, capture_output=True, check=False).returncode
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process can grow over `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_disk(disk: Path) -> list[Outcome]:
    """A disk with room for 0, 1, 2, … pages more."""
    outcomes = []
    for pages in range(13):
        folder = disk / f"{pages}"
        keeper = _begun(folder)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            while _wrote(file, b"x" * PAGE):
                pass
            file.truncate(file.tell() - pages * PAGE)
        error = _saved(keeper)
        filler.unlink()
        outcomes.append(_judged(f"room for {pages} pages", folder, error, "No space left"))
        subprocess.run(["rm", "-r", str(folder)], check=True)
    return outcomes


def limited_files(root: Path) -> list[Outcome]:
    """Files that cannot grow over each of some sizes: those of the files, and one byte less."""
    outcomes = []
    for limit in (0, 1, 100, 299, 300, 699, 700, 1_000, 4_999, 5_000, 9_000, 9_001):
        folder = root / f"limit-{limit}"
        keeper = _begun(folder)
        with files_up_to(limit):
            error = _saved(keeper)
        outcomes.append(_judged(f"files up to {limit} bytes", folder, error, "File too large"))
    return outcomes


def _begun(folder: Path) -> Keeper:
    keeper = Keeper(folder, keep=2, backup=None, say=str)
    for step in (10, 20):
        keeper.save(step, files(step), about(10), best=step == 10)
    keeper.wait()
    return keeper


def _saved(keeper: Keeper) -> str:
    """The error that a save ends with, or ""."""
    keeper.save(30, files(30), about(10), best=False)
    try:
        keeper.close()
    except RunError as error:
        return str(error)
    return ""


def _judged(case: str, folder: Path, error: str, reason: str) -> Outcome:
    if error and (reason not in error or "resume=True" not in error or "\n" in error):
        return Outcome(case, silent=f"said {error!r}")
    if left := [path.name for path in folder.glob(".*")]:
        return Outcome(case, alarm=f"left behind: {left}")
    return judge(
        case,
        partial(newest, folder),
        expected=[(30, ""), *([(20, "")] if error else [])],  # it may be `last` that has no room
        further=partial(saves, folder, 10),
    )


def _wrote(file: object, page: bytes) -> int:
    try:
        return file.write(page)  # type: ignore[attr-defined, no-any-return]
    except OSError:
        return 0
