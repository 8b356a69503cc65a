"""Files that are whole or not there at all, and what their bytes were when they were written."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from nlpkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, synced, when the block ends well."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except OSError as error:
        if error.strerror and not error.filename:  # a full disk does not say where
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def check_local(path: str | Path, argument: str) -> None:
    """Raises InputError for a URL, also one that a Path has folded, where a path is needed."""
    if re.match(r"\w[\w+.-]+:/", str(path)):
        remedy = "name a path on this machine, and copy what is written there"
        raise InputError(f"{argument} {path}: is a URL; {remedy}")


@contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Holds `path` among processes: a file that is there while the block runs.

    Args:
        path: In a folder that can be written to.
        patience: Seconds that it may take to get it.

    Raises:
        TimeoutError: Another process has it.
    """
    from filelock import FileLock  # needs asyncio, which starting up does without

    lock = FileLock(path)
    lock.acquire(timeout=patience)
    try:
        yield
    finally:
        with suppress(OSError):  # on Windows it goes when it is released
            path.unlink()
        lock.release()


def json_text(value: object, *, indent: int | None = None, ascii: bool = False) -> str:
    """As JSON, which has no NaN and nothing infinite: what is no number is null."""
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    if "NaN" in text or "Infinity" in text:
        plain = json.loads(text, parse_constant=lambda _: None)
        text = json.dumps(plain, ensure_ascii=ascii, indent=indent)
    return text


def put(made: Path, folder: Path, aside: Path) -> None:
    """Gives a finished folder its name; the one that had it is kept, `aside`, until then."""
    if folder.exists():
        folder.rename(aside)
    try:
        made.rename(folder)
    except BaseException:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replaces a file as a whole by a JSON value, indented, in UTF-8."""
    with replacing(path) as partial:
        text = json.dumps(value, indent=2, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")


def as_json(value: Any) -> Any:
    """For JSON, which has no NaN: what is no number becomes text."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(text: str | bytes, **options: Any) -> Any:
    """`json.loads` for what others wrote: a ValueError is all that it raises, of a depth too."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def sync(path: Path) -> None:
    """Returns when a file, or the entries of a folder, would survive a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def is_inside(name: str) -> bool:
    """Whether a file's name, told by somebody else, is one below the folder that it is put in."""
    place = PurePosixPath(name)
    odd = "\\" in name or "\0" in name or PureWindowsPath(name).drive
    return bool(place.name) and not (odd or place.is_absolute() or ".." in place.parts)


def hashes(folder: Path, paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size and sha256 of files, by their place in `folder`."""
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(paths)
    }


def fault_of(path: Path, expected: Mapping[str, Any], *, content: bool = True) -> str:
    """What is wrong with a file that `hashes` described, as the end of a sentence, or ""."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != expected["size"]:
        return f"is damaged ({size} bytes instead of {expected['size']})"
    if content and sha256(path) != expected["sha256"]:
        return "is damaged (its sha256 is not the recorded one)"
    return ""


def seal_of(description: Mapping[str, Any]) -> str:
    """The sha256 of a description that may hold it under "seal"."""
    sealed = {key: value for key, value in description.items() if key != "seal"}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """The sha256 of a file, of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
