"""A file of a million rows through `nlpkit predict`: a section of docs/benchmarks.md.

`make bench-predictions` measures speed and memory, and kills it again and again on the way.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

import nlpkit
from benchmarks.page import processor, put, table
from nlpkit.files import sha256

FEW = 10_000
WORDS = 20_000
CONFIG = {
    "name": "tiny",
    "task": "sequence",
    "data": "sample",
    "tokenizer": {"name": "wordpiece", "vocab_size": 1000, "max_length": 16},
    "model": {"name": "transformer", "layers": 1, "hidden": 32, "heads": 2, "feed_forward": 64},
    "train": {"max_steps": 20},
    "observers": [],
}
TEXT = """
Measured by `make bench-predictions` with torch {torch}, Python {python}, {cores} cores of one CPU
({processor}): `nlpkit predict RUN --input in.csv --output out.jsonl`, rows of 3 to 20 random words,
one in a thousand without a text, and a tiny model (one layer of 32, on one thread), so that what is
measured is everything around it. Memory is the peak of anonymous memory (RssAnon) of the whole
process, libraries included; times include start and end.

{table}
{rows:,} rows take {ratio:.3f} times the memory of {few:,}. Killed (SIGKILL) {kills} times on the
way and gone on with by `--resume`, they took {resumed} min in all, and the file was
{equal} that of the run that nothing interrupted, which has one line for each row, in order.
"""


class Outcome(NamedTuple):
    """What a process came to: seconds, and the peak of its anonymous memory in MiB."""

    seconds: float
    memory: float


def main() -> None:
    """Measures, kills, and writes the section."""
    parser = argparse.ArgumentParser(prog="benchmarks.predictions", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"NLPKIT_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        run = nlpkit.train(CONFIG, out=folder / "run").path
        found = {}
        for count in (FEW, options.rows):
            source, output = rows(folder / f"{count}.csv", count), folder / f"{count}.jsonl"
            found[count] = finish(run, source, output)
            print(f"{count} rows: {found[count]}", file=sys.stderr, flush=True)
            check(source, output)
        again = folder / "again.jsonl"
        resumed = killed(run, source, again, options.kills, output.stat().st_size)
        equal = sha256(again) == sha256(output)
    few, many = found.values()
    put(
        "Predictions",
        TEXT.format(
            torch=torch.__version__.split("+")[0],
            python=platform.python_version(),
            cores=len(os.sched_getaffinity(0)),
            processor=processor(),
            table=table(
                ["rows", "peak memory, MiB", "time, s", "rows/s"],
                [
                    [
                        f"{count:,}",
                        f"{o.memory:.0f}",
                        f"{o.seconds:.0f}",
                        f"{count / o.seconds:,.0f}",
                    ]
                    for count, o in found.items()
                ],
            ),
            rows=options.rows,
            few=FEW,
            ratio=many.memory / few.memory,
            kills=options.kills,
            resumed=f"{resumed // 60:.0f}:{resumed % 60:02.0f}",
            equal="byte for byte" if equal else "NOT",
        ),
    )


def rows(path: Path, count: int) -> Path:
    """A csv of random texts, every thousandth of which is missing."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghij", k=6)) for _ in range(WORDS)]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "text"])
        for number in range(count):
            text = " ".join(generator.choices(words, k=generator.randint(3, 20)))
            table.writerow([number, text if number % 1000 else ""])
    return path


def started(run: Path, source: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        "import sys; from nlpkit.cli.main import main; sys.exit(main())",
    ]
    given = ["predict", str(run), "--input", str(source), "--output", str(output), "--resume"]
    return subprocess.Popen([*command, *given])


def finish(run: Path, source: Path, output: Path) -> Outcome:
    """Predicts a whole file, and watches its memory."""
    process, began, memory = started(run, source, output), time.perf_counter(), 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if anonymous := re.search(r"RssAnon:\s+(\d+)", status):  # none once it has ended
            memory = max(memory, int(anonymous[1]))
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"nlpkit predict ended with {process.returncode}")
    return Outcome(time.perf_counter() - began, memory / 1024)


def killed(run: Path, source: Path, output: Path, kills: int, size: int) -> float:
    """Seconds that a file takes whose process is killed when a share of its bytes is written."""
    began = time.perf_counter()
    for number in range(1, kills + 1):
        process = started(run, source, output)
        while written(output) < size * number / (kills + 1):
            time.sleep(0.01)
        process.kill()
        process.wait()
        print(f"killed after {written(output)} bytes", file=sys.stderr, flush=True)
    finish(run, source, output)
    return time.perf_counter() - began


def written(output: Path) -> int:
    return sum(each.stat().st_size for each in output.parent.glob(f".{output.name}.*.partial"))


def check(source: Path, output: Path) -> None:
    """Exits where a line is not that of its row."""
    with source.open(encoding="utf-8", newline="") as texts, output.open("rb") as lines:
        for row, line in zip(csv.DictReader(texts), lines, strict=True):
            beginning = f'{{"text": "{row["text"]}", '.encode()
            if not line.startswith(beginning):
                sys.exit(f"row {row['id']} has another text than its line: {line!r}")


if __name__ == "__main__":
    main()
