"""A folder behind a file system that can be told to be slow, to fail, or to damage things."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Remote(LocalFileSystem):
    """Real files, reached over a bad line; its state is the class's, as fsspec keeps instances."""

    protocol = "badline"
    down = False
    open_gate = threading.Event()
    gate_at = "put_file"
    failures = 0
    damages: str | None = None
    read_only = False
    log: list[str] = []  # noqa: RUF012

    @classmethod
    def reset(cls) -> None:
        cls.down, cls.failures, cls.damages, cls.read_only, cls.log = False, 0, None, False, []
        cls.gate_at = "put_file"
        cls.open_gate.set()

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(path).removeprefix("badline://")

    def _line(self) -> None:
        if type(self).down:
            raise ConnectionError("the line is dead")

    def _gate(self, at: str) -> None:
        if type(self).gate_at == at:
            type(self).open_gate.wait(30)

    def size(self, path: str) -> int:
        self._gate("size")
        return int(super().size(path))

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        self._line()
        return super().ls(path, detail=detail, **kwargs)

    def cat_file(self, path: str, start: Any = None, end: Any = None, **kwargs: Any) -> bytes:
        self._line()
        return bytes(super().cat_file(path, start, end, **kwargs))

    def put_file(self, path1: str, path2: str, callback: Any = None, **kwargs: Any) -> None:
        self._line()
        self._gate("put_file")
        if type(self).failures:
            type(self).failures -= 1
            raise TimeoutError("the line is busy")
        super().put_file(path1, path2, callback, **kwargs)
        type(self).log.append("/".join(Path(path2).parts[-2:]))
        if type(self).damages == Path(path2).name:
            type(self).damages = None
            flip(Path(self._strip_protocol(path2)))

    def rm(self, path: Any, recursive: bool = False, maxdepth: Any = None) -> None:
        if type(self).read_only:
            raise PermissionError(13, "Access Denied")
        type(self).log.append(f"rm {Path(path).name}")
        super().rm(path, recursive=recursive, maxdepth=maxdepth)


fsspec.register_implementation("badline", Remote, clobber=True)


def flip(path: Path, at: int = -1, bit: int = 0) -> None:
    """Flips one bit of a file."""
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 1 << bit
    path.write_bytes(damaged)
