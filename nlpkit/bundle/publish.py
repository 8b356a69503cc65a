"""A workspace's finished models: what is served or shipped, apart from the runs that made it."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nlpkit.bundle.format import DESCRIPTION
from nlpkit.environment import workspace
from nlpkit.files import put

if TYPE_CHECKING:
    from collections.abc import Callable


def published(run: Path) -> Path | None:
    """Where a run's bundle is published: `models/final/<run>`; None without NLPKIT_WORKSPACE."""
    base = workspace()
    return base / "models" / "final" / run.resolve().name if base else None


def publish(run: Path, note: Callable[[str], None]) -> None:
    """Copies the bundle of a finished run, exports included; the one before is replaced whole.

    What stands in the way is noted: the run itself has its bundle.
    """
    folder = published(run)
    if folder is None or not (run / "result.json").exists():
        return
    remedy = f"copy {run / 'bundle'} yourself"
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        note(f"warning: {folder}: holds something that is no bundle; move it, and {remedy}")
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
            made = shutil.copytree(run / "bundle", Path(work, "made"))
            put(made, folder, Path(work, "older"))
    except (OSError, shutil.Error) as error:
        note(f"warning: {folder}: {error}; {remedy}")
