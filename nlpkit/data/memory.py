"""Rows in memory as files: from there on it is an ordinary run on files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nlpkit.config.resolve import build, resolve
from nlpkit.data.encoding import AUTO
from nlpkit.data.rows import write_rows
from nlpkit.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.config.schema import Config
    from nlpkit.plugin.host import Host

SPLITS = ("train", "validation", "test")
"""The keys of `data` that are locations of rows."""


def write_splits(
    data: Mapping[str, Any], folder: Path, config: Config, host: Host
) -> dict[str, Path]:
    """Writes rows by split into files of a folder, which are returned; what the task reads of them.

    Raises:
        InputError: There are none to train on, or some cannot be written.
    """
    remedy = 'give rows by split: {"train": rows, "validation": rows, "test": rows}'
    if not isinstance(data, Mapping):
        raise InputError(f"data: is {type(data).__name__}; {remedy}")
    if unknown := [split for split in data if split not in SPLITS]:
        raise InputError(f"data: {unknown[0]!r} is no split; {remedy}")
    if "train" not in data:
        raise InputError(f"data: train is missing; {remedy}")
    task = build(resolve(config, host).task, "task", host)
    declared = config.data.options.get("encoding", AUTO) != AUTO
    written = {split: folder / f"{split}.jsonl" for split in data}
    for split, path in written.items():
        write_rows(data[split], path, split, columns=task.reads, marked=declared)
    return written


def on_files(config: Config, folder: Path) -> Config:
    """The config with the files of a folder, which `write_splits` wrote, as its data."""
    given = config.data
    locations: dict[str, Any] = {"name": "files"}
    for path in sorted(folder.glob("*.jsonl")):
        locations[path.stem] = str(path)
    kept: dict[str, Any] = {"on_bad_rows": given.on_bad_rows}
    if given.name == "files":
        kept |= {"validation": given.validation, "test": given.test, **given.options}
    elif isinstance(given.validation, float | None):  # another source's locations are none
        kept["validation"] = given.validation
    section = type(given).model_validate({**kept, **locations})
    return config.model_copy(update={"data": section})
