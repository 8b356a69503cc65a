"""What checkpoints cost: a section of docs/benchmarks.md (`make bench-checkpoints`).

Takes banking77 where benchmarks/accuracy.py does, and random words where it is not there.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import nlpkit
from benchmarks.accuracy import DATA, MINILM
from benchmarks.page import processor, put, table
from nlpkit.environment import threads_per_rank
from nlpkit.training.saving import Saving

EVERY = 50
ARMS = {f"every {EVERY} steps": EVERY, "at the end only": 10**9}
TEXT = """
Measured by `make bench-checkpoints` with torch {torch}, Python {python}, {threads} threads of one
CPU ({processor}), the run folder on {disk}: `bert` from MiniLM-L6, {megabytes:.0f} MB a checkpoint,
{steps} steps of 32 rows of {data}, no evaluation; the median of {repeats} runs, which alternate.
"blocked" is all the time that the training thread spends on checkpoints: copying weights and
moments, and waiting where the one before is still being written.

{table}
With `checkpoint.every: {every}` training is blocked {share:.2%} of the time. The whole run takes
{ratio:.3f} times as long as with one checkpoint at its end, for another thread's hashing and
writing compete for the CPU: the median over neighbouring runs, whose ratios lie between {low:.3f}
and {high:.3f}.
"""


def main() -> None:
    """Runs both in turn and writes the section."""
    parser = argparse.ArgumentParser(prog="benchmarks.checkpoints", description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NLPKIT_CACHE"] = f"{folder}/cache"
        path, data = rows(Path(folder), 32 * options.steps)
        for repeat in range(options.repeats):
            for name in list(ARMS)[:: -1 if repeat % 2 else 1]:
                found[name].append(run(path, Path(folder) / "run", options.steps, ARMS[name]))
                print(f"{name}, run {repeat + 1}: {found[name][-1]}", file=sys.stderr, flush=True)
    medians = {
        name: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        for name, runs in found.items()
    }
    ratios = [one["seconds"] / other["seconds"] for one, other in zip(*found.values(), strict=True)]
    every = next(iter(medians.values()))
    titles = ["checkpoints", "saved", "blocked, s", "of the training", "whole run, s"]
    put(
        "Checkpoints",
        TEXT.format(
            torch=torch.__version__.split("+")[0],
            python=platform.python_version(),
            threads=threads_per_rank(1),
            processor=processor(),
            disk=file_system(),
            megabytes=every["bytes"] / 1e6,
            steps=options.steps,
            data=data,
            repeats=options.repeats,
            table=table(titles, [line(name, each) for name, each in medians.items()]),
            every=EVERY,
            share=every["share"],
            ratio=statistics.median(ratios),
            low=min(ratios),
            high=max(ratios),
        ),
    )


def run(path: Path, out: Path, steps: int, every: int) -> dict[str, float]:
    """One training run, and what its checkpoints cost."""
    blocked, saving = [], Saving.save

    def timed(*arguments: Any) -> None:
        started = time.perf_counter()
        saving(*arguments)
        blocked.append(time.perf_counter() - started)

    config = {
        "name": "checkpoints",
        "device": "cpu",
        "data": {"train": str(path), "validation": None},
        "model": {"name": "bert", "pretrained": str(MINILM)},
        "train": {"epochs": 10, "max_steps": steps},
        "precision": "fp32",
        "checkpoint": {"every": every},
        "observers": [],
    }
    Saving.save = timed  # type: ignore[assignment,method-assign]
    try:
        result = nlpkit.train(config, out=out).result
    finally:
        Saving.save = saving  # type: ignore[method-assign]
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    size = sum(file.stat().st_size for file in newest.iterdir())
    shutil.rmtree(out)
    training = result["training_seconds"] + sum(blocked)
    return {
        "saved": result["checkpoints"]["saved"],
        "blocked": sum(blocked),
        "share": sum(blocked) / training,
        "seconds": result["seconds"],
        "bytes": size,
    }


def line(name: str, median: dict[str, float]) -> list[str]:
    """A line of the table."""
    return [
        name,
        f"{median['saved']:.0f}",
        f"{median['blocked']:.2f}",
        f"{median['share']:.2%}",
        f"{median['seconds']:.1f}",
    ]


def rows(folder: Path, count: int) -> tuple[Path, str]:
    """A csv of text and label, and what is in it."""
    path, generator = folder / "train.csv", random.Random(0)
    if (DATA / "train.csv").exists():
        with (DATA / "train.csv").open(encoding="utf-8", newline="") as file:
            pairs = [(row["text"], row["category"]) for row in csv.DictReader(file)]
        data = "banking77"
    else:
        words = ["".join(generator.choices("abcdefgh", k=5)) for _ in range(500)]
        texts = (
            " ".join(generator.choices(words, k=generator.randint(4, 20))) for _ in range(count)
        )
        pairs, data = [(text, f"label {at % 77}") for at, text in enumerate(texts)], "random words"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *pairs])
    return path, data


def file_system() -> str:
    """The kind that temporary folders are on."""
    folder, mounts = Path(tempfile.gettempdir()).resolve(), Path("/proc/mounts")
    kinds = (
        dict(each.split()[1:3] for each in mounts.read_text().splitlines())
        if mounts.exists()
        else {}
    )
    holds = [kinds[str(each)] for each in (folder, *folder.parents) if str(each) in kinds]
    return holds[0] if holds else "an unknown file system"


if __name__ == "__main__":
    main()
