"""Copies of checkpoints in a folder or behind any fsspec URL, verified there and when fetched."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]

from nlpkit.checkpoint.files import (
    MANIFEST,
    Checkpoint,
    NewerFormatError,
    folder_name,
    parsed,
    placing,
    reason_of,
    verify,
)
from nlpkit.config.schema import BY_NAME, revealed
from nlpkit.errors import CheckpointError, ConfigError, InputError
from nlpkit.files import fault_of
from nlpkit.secrets import has_password, hidden, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nlpkit.config.schema import Config

_STEP = re.compile(r"step-(\d{8,})")
# With its defaults, a network that swallows packets would hold a resume up for minutes.
_S3 = {"connect_timeout": 5, "retries": {"max_attempts": 1}}


def backup_of(config: Config, run: str) -> Backup | None:
    """Where a config's checkpoints are copied to. Raises ConfigError where that cannot be used."""
    given = config.checkpoint.backup
    if not given:
        return None
    try:
        if isinstance(given, str) and shown(given) != given:  # it would stand in every checkpoint
            raise InputError(f"the URL shows a secret; {BY_NAME}")
        return Backup(revealed(given), run)
    except InputError as error:
        problem = config.origin.problem(("checkpoint", "backup"), str(error))
        raise ConfigError([problem]) from None


class Backup:
    """Where copies of one run's checkpoints are: `<url>/<name>/step-00000314/`.

    Credentials in the URL are in no message.

    Args:
        url: A folder or an fsspec URL; endpoints and the like come from the environment.
        name: The run's name.

    Raises:
        InputError: The URL cannot be used, or needs a package that is not installed.
    """

    def __init__(self, url: str, name: str) -> None:
        protocol, separator, _ = url.partition("://")
        self._shown = f"{shown(url).removesuffix('?…').rstrip('/')}/{name}"
        s3 = protocol in ("s3", "s3a")
        self._name, self._options = name, {"config_kwargs": _S3} if s3 else {}
        self._url = url if separator else str(Path(os.path.expanduser(url)).absolute())
        try:
            fsspec.get_filesystem_class(protocol if separator else "file")
        except (ImportError, ValueError) as error:
            remedy = "pip install 'nlpkit-sdk[s3]'" if s3 else reason_of(error)
            raise InputError(f"checkpoint.backup: {self}: cannot be used: {remedy}") from None
        if s3 and has_password(url):
            raise InputError(
                f"checkpoint.backup: {self}: no credentials can stand here; set AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY instead"
            )

    def __str__(self) -> str:
        return self._shown

    def reason_of(self, error: Exception) -> str:
        """Why something failed, on one line, without the secrets that the URL holds."""
        return hidden(reason_of(error), self._url)

    def exists(self) -> bool:
        """Whether there are copies of checkpoints; false too where it cannot be reached."""
        with suppress(Exception):
            return bool(self._steps())
        return False

    def copy(self, path: Path) -> None:
        """Copies a checkpoint and reads it back; returns when it is whole there.

        Raises:
            Exception: Whatever kept it from that; copying again is safe.
        """
        fs, root = self._open()
        remote = f"{root}/{path.name}"
        content = (path / MANIFEST).read_bytes()
        files = parsed(content, str(path / MANIFEST))["files"]
        if not _fault(fs, remote, content, files):  # by a process that ended before it could say so
            return
        if "s3" not in fs.protocol:  # which has no folders, and would make a bucket
            fs.makedirs(remote, exist_ok=True)
        for name in (*files, MANIFEST):  # the manifest last: without it there is no checkpoint
            fs.put_file(str(path / name), f"{remote}/{name}")
        if fault := _fault(fs, remote, content, files):
            raise CheckpointError(f"{self}/{path.name}/{fault}")

    def prune(self, step: int, wanted: set[int]) -> None:
        """Removes copies older than `step`, which is known to be whole, that are not wanted.

        Raises:
            Exception: Whatever kept it from that.
        """
        fs, root = self._open()
        for old in self._steps():
            if old < step and old not in wanted:
                fs.rm(f"{root}/{folder_name(old)}", recursive=True)

    def newest(
        self, folder: Path, newer_than: int, on_damaged: Callable[[str], None]
    ) -> Checkpoint | None:
        """Fetches the newest whole checkpoint, and the best one that it knows of.

        Args:
            folder: Where checkpoints are; it becomes one of them.
            newer_than: Steps up to this one are of no use.
            on_damaged: Told what is wrong with each newer one, or that nothing can be reached.

        Raises:
            NewerFormatError: A newer nlpkit wrote the newest.
        """
        try:
            steps = self._steps()
        except Exception as error:
            on_damaged(f"{self}: cannot be reached ({self.reason_of(error)})")
            return None
        found = (self.fetch(folder, step, on_damaged) for step in steps if step > newer_than)
        return next(filter(None, found), None)

    def fetch(
        self, folder: Path, step: int, on_damaged: Callable[[str], None]
    ) -> Checkpoint | None:
        """Fetches the checkpoint of a step, unless it is here, after the best that it knows of.

        Args:
            folder: Where checkpoints are.
            step: Which one.
            on_damaged: Told why it cannot be used.

        Raises:
            NewerFormatError: A newer nlpkit wrote it.
        """
        place, name = folder / folder_name(step), MANIFEST
        address = f"{self}/{place.name}"
        with suppress(CheckpointError):
            return verify(place)
        try:
            fs, root = self._open()
            content = fs.cat_file(f"{root}/{place.name}/{name}")
            manifest = parsed(content, f"{address}/{name}")
            if manifest.get("best_step") not in (None, step):
                self.fetch(folder, manifest["best_step"], on_damaged)
            with placing(folder, step) as partial:
                for name, expected in manifest["files"].items():
                    fs.get_file(f"{root}/{place.name}/{name}", str(partial / name))
                    if fault := fault_of(partial / name, expected):
                        raise CheckpointError(f"{address}/{name}: {fault}")
                (partial / MANIFEST).write_bytes(content)
            return Checkpoint(place, manifest)
        except NewerFormatError:
            raise
        except CheckpointError as error:
            on_damaged(str(error))
        except FileNotFoundError:
            on_damaged(f"{address}/{name}: is missing")
        except Exception as error:
            on_damaged(f"{address}/{name}: cannot be fetched ({self.reason_of(error)})")
        return None

    def _steps(self) -> list[int]:
        """The steps there, the newest first. Raises whatever kept it from that."""
        fs, root = self._open()
        try:
            names = fs.ls(root, detail=False)
        except FileNotFoundError:
            return []
        matches = (_STEP.fullmatch(name.rstrip("/").rpartition("/")[2]) for name in names)
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def _open(self) -> tuple[Any, str]:
        """The file system, with nothing remembered, and the folder there."""
        fs, root = fsspec.core.url_to_fs(self._url, **self._options)
        fs.invalidate_cache()
        return fs, f"{root.rstrip('/')}/{self._name}"


def _fault(fs: Any, remote: str, content: bytes, files: Mapping[str, Any]) -> str:
    """What is wrong with a copy, read back from there, or ""."""
    name = MANIFEST
    try:
        if fs.cat_file(f"{remote}/{name}") != content:
            return f"{name}: is another one"
        for name, expected in files.items():
            if (size := fs.size(f"{remote}/{name}")) != expected["size"]:
                return f"{name}: is damaged ({size} bytes instead of {expected['size']})"
            with fs.open(f"{remote}/{name}", "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                    return f"{name}: is damaged (its sha256 is not the recorded one)"
    except FileNotFoundError:
        return f"{name}: is missing"
    return ""
