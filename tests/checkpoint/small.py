"""Checkpoints of a few kilobytes whose every byte is known."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nlpkit.checkpoint.files import MANIFEST, write

SIZES = {
    "model.safetensors": 5_000,
    "optimizer.safetensors": 9_001,
    "state.json": 300,
    "metrics.jsonl": 700,
}


def content(step: int, name: str, version: str = "") -> bytes:
    """What a file of a step holds; another version of it is as long."""
    return random.Random(f"{step} {name} {version}").randbytes(SIZES[name])


def files(
    step: int, version: str = "", between: Callable[[], None] = lambda: None
) -> dict[str, Callable[[Path], None]]:
    """What writes the files; `between` is called before and after each part of one."""

    def write_file(name: str, path: Path) -> None:
        whole = content(step, name, version)
        with path.open("wb", buffering=0) as file:
            start = 0
            while start < len(whole):
                between()
                start += file.write(whole[start : start + 4_000])  # less where the disk is full
            between()

    return {name: partial(write_file, name) for name in SIZES}


def about(best: int | None = None) -> Mapping[str, Any]:
    return {"best_step": best, "config": {"name": "größe", "lr": 5e-5}, "versions": {"torch": "2"}}


def save(folder: Path, step: int, best: int | None = None, version: str = "") -> Path:
    return write(folder, step, files(step, version), about(best))


def holds(path: Path, step: int, version: str = "") -> bool:
    """Whether a checkpoint's files are those of this step, each of them, whole."""
    return all((path / name).read_bytes() == content(step, name, version) for name in SIZES)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.005)


ALL_FILES = (*SIZES, MANIFEST)
