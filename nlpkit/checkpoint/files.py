"""A checkpoint on disk: a folder that is there whole or not at all, and that tells its damage.

    checkpoints/
      step-00000314/    the files, and manifest.json: size and sha256 of each, a seal over itself
      best last         names of folders, for people; the truth is in the manifests

A folder is written under a temporary name, which starts with a dot, synced, and renamed. One that
it replaces is called step-00000314.old meanwhile, and is still found: a process that is killed
between any two operations leaves no less than there was. The seal is there in every format, so
that a flipped bit is told from a newer nlpkit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from nlpkit.errors import CheckpointError
from nlpkit.files import fault_of, from_json, hashes, seal_of, sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Files = Mapping[str, Callable[[Path], None]]

FORMAT = 1
MANIFEST = "manifest.json"

_FOLDER = re.compile(r"step-(\d{8,})(\.old)?")
_FILE = re.compile(r"\w[\w.-]*")


class NewerFormatError(CheckpointError):
    """A newer nlpkit wrote it: older ones must not be taken instead, as if it were damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are verified.

    Attributes:
        path: Its folder.
        manifest: What manifest.json holds.
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """The optimizer steps that were done."""
        return int(self.manifest["step"])

    @property
    def best_step(self) -> int | None:
        """The step of the best model so far."""
        return cast("int | None", self.manifest.get("best_step"))


def folder_name(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step:08d}"


def listed(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of all checkpoints in a folder, the newest first; none is verified."""
    paths = folder.iterdir() if folder.is_dir() else ()
    found = [(match, path) for path in paths if (match := _FOLDER.fullmatch(path.name))]
    steps = [(int(match[1]), path) for match, path in found]
    return sorted(steps, key=lambda each: (-each[0], each[1].name))


def write(folder: Path, step: int, files: Files, about: Mapping[str, Any]) -> Path:
    """Writes a checkpoint as a transaction.

    Args:
        folder: Where checkpoints are; made where it is missing.
        step: The optimizer steps that are done.
        files: By name, what writes the file at the path that it is given.
        about: What else the manifest says: JSON, with text as keys.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: It cannot be written; what was there before is there still.
    """
    with placing(folder, step) as partial:
        for name, write_file in files.items():
            write_file(partial / name)
        described = hashes(partial, [partial / name for name in files])
        manifest = {**about, "format": FORMAT, "step": step, "files": described}
        manifest["seal"] = seal_of(manifest)
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        # Ends in its brace, without a line break: so every byte that gets lost is missed.
        (partial / MANIFEST).write_text(text, encoding="utf-8")
    return folder / folder_name(step)


@contextmanager
def placing(folder: Path, step: int) -> Iterator[Path]:
    """A temporary folder that becomes the checkpoint of `step`, synced, if the block ends well."""
    place = folder / folder_name(step)
    partial = folder / f".{place.name}.{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    sync(folder.parent)
    for left in folder.glob(".step-*"):  # by processes that were killed
        shutil.rmtree(left)
    settle(folder)
    partial.mkdir()
    try:
        yield partial
        for path in partial.iterdir():
            sync(path)
        sync(partial)
        _swap(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove(path: Path) -> None:
    """Removes a checkpoint; half of one is never seen under its name."""
    gone = path.with_name(f".{path.name}.gone")
    path.rename(gone)
    shutil.rmtree(gone)


def verify(path: Path) -> Checkpoint:
    """The checkpoint in a folder, if it is whole; files that are no part of it do not matter.

    Raises:
        CheckpointError: A file is damaged, missing or cannot be read; it is named.
        NewerFormatError: A newer nlpkit wrote it.
    """
    try:
        address = path / MANIFEST
        if not address.is_file():
            raise CheckpointError(f"{address}: is missing")
        manifest = parsed(address.read_bytes(), str(address))
        for name, expected in manifest["files"].items():
            if fault := fault_of(path / name, expected):
                raise CheckpointError(f"{path / name}: {fault}")
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or path}: cannot be read ({reason_of(error)})"
        ) from error
    return Checkpoint(path, manifest)


def parsed(content: bytes, address: str) -> dict[str, Any]:
    """What a manifest.json holds. Raises as `verify` does."""
    try:
        manifest: dict[str, Any] = from_json(content)
        whole = manifest["seal"] == seal_of(manifest)
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise CheckpointError(f"{address}: is damaged (its seal is broken)")
    found = manifest.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise NewerFormatError(
            f"{address}: was written by a newer nlpkit (format {found}; this one reads up to "
            f"{FORMAT}): install a newer nlpkit"
        )
    files = manifest.get("files")
    if found != FORMAT or not isinstance(files, dict) or not all(map(_FILE.fullmatch, files)):
        raise CheckpointError(f"{address}: is not as nlpkit writes it")
    return manifest


def newest(folder: Path, on_damaged: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole.

    Args:
        folder: Where checkpoints are.
        on_damaged: Told what is wrong with each newer one.

    Raises:
        NewerFormatError: A newer nlpkit wrote the newest.
    """
    for _, path in listed(folder):
        try:
            return verify(path)
        except NewerFormatError:
            raise
        except CheckpointError as error:
            on_damaged(str(error))
    return None


def settle(folder: Path) -> None:
    """Gives checkpoints their names back that a killed process was about to replace.

    For who alone writes there: another one might be replacing them now.
    """
    for _, path in listed(folder):
        place = path.with_suffix("")
        if not place.exists():
            path.rename(place)


def reason_of(error: BaseException) -> str:
    """Why something failed, on one line, whole: nothing that is to be hidden is cut in two."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return text if text and isinstance(error, OSError) else f"{type(error).__name__}: {text}"


def _swap(partial: Path, place: Path) -> None:
    """Gives a new checkpoint its name; one that has it is found as .old until then."""
    old = place.with_name(f"{place.name}.old")
    if place.exists():
        if old.exists():  # a killed process left it, and it may be the only whole one
            remove(place)
        else:
            place.rename(old)
    partial.rename(place)
    sync(place.parent)
    for _, path in listed(place.parent):
        if path.suffix:
            remove(path)
