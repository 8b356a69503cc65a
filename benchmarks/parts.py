"""Benchmarks in parts that take long: what has been measured is not measured again.

Each part leaves JSON files in a work folder, and the section is made from whatever there is.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import torch

from benchmarks.page import processor, put
from benchmarks.sets import ROOT
from nlpkit.environment import threads_per_rank
from nlpkit.files import write_json

Found = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """Where numbers are kept, and how much is measured.

    Attributes:
        path: The folder.
        smoke: Whether everything is tried in miniature, on data that is made up where that is so.
        overrides: `KEY=VALUE` of nlpkit's configs, where a part has one that is to be chosen.
    """

    path: Path
    smoke: bool = False
    overrides: tuple[str, ...] = ()

    def kept(self, name: str, measure: Callable[[], Found]) -> Found:
        """What a file of this name says; where there is none, it is measured and written."""
        path = self.path / f"{name}.json"
        if not path.exists():
            print(f"{name} …", file=sys.stderr, flush=True)
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(path, {**measure(), "machine": machine()})
        return json.loads(path.read_text("utf-8"))

    def found(self, pattern: str) -> dict[str, Found]:
        """What there is so far, by name, in the order of the names."""
        files = sorted(self.path.glob(f"{pattern}.json"))
        return {file.stem: json.loads(file.read_text("utf-8")) for file in files}


@dataclass(frozen=True)
class Part:
    """A part of a section.

    Attributes:
        measure: Measures what is not there yet.
        text: What is to be said of it, and of parts before it that say nothing; "" where nothing
            is there yet.
    """

    measure: Callable[[Work], object]
    text: Callable[[Work], str] = lambda work: ""


def main(
    name: str,
    heading: str,
    parts: Mapping[str, Part],
    arguments: list[str] | None = None,
) -> None:
    """Measures the parts that are asked for, and writes the section."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.{name}")
    parser.add_argument("--work", type=Path, help=f"build/bench-{name}; of --smoke none is kept")
    parser.add_argument("--only", nargs="+", choices=(*parts, "page"), default=list(parts))
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE of nlpkit's config")
    parser.add_argument("--fresh", action="store_true", help="forget what has been measured")
    parser.add_argument("--smoke", action="store_true", help="tries it in miniature; no page")
    options = parser.parse_args(arguments)
    torch.set_num_threads(threads_per_rank(1))
    with tempfile.TemporaryDirectory() as folder:
        usual = Path(folder) if options.smoke else ROOT / "build" / f"bench-{name}"
        work = Work(options.work or usual, smoke=options.smoke, overrides=tuple(options.set))
        if options.fresh:
            shutil.rmtree(work.path, ignore_errors=True)
        for part in options.only:
            if part != "page":
                parts[part].measure(work)
        said = (part.text(work).strip() for part in parts.values())
        text = wrapped("\n\n".join(filter(None, said)))
    if options.smoke:
        print(text)
    elif text:
        put(heading, text)


def wrapped(text: str) -> str:
    """Paragraphs of at most 100 characters a line; tables, lists, titles and code stay."""
    parts, coded = [], False
    for block in text.split("\n\n"):
        told = not coded and not block.startswith(("|", "#", "-", "```"))
        parts.append(fill(block.strip(), 100, break_on_hyphens=False) if told else block)
        coded ^= block.count("```") % 2 == 1
    return "\n\n".join(parts)


def machine() -> str:
    """What numbers were measured with."""
    return (
        f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}, "
        f"threads: {threads_per_rank(1)}, one CPU ({processor()})"
    )


def machines(found: Mapping[str, Found]) -> str:
    """What these were measured with."""
    return "; ".join(sorted({each["machine"] for each in found.values()}))
