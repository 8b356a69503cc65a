"""Prints constraints for the image: those of a file, with the base's own torch in their place."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

KEPT = ("torch", "torchvision", "torchaudio")


def constraints(tested: str) -> str:
    """The lines of `tested`, but for what the base brings, which is pinned to what it is."""
    lines = [line for line in tested.splitlines() if re.split("[=<>!~ ]", line)[0] not in KEPT]
    for name in KEPT:
        try:
            lines.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(constraints(Path(sys.argv[1]).read_text(encoding="utf-8")))
