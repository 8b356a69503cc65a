"""Speed and accuracy of training beside its peers: a section of docs/benchmarks.md (`make bench`).

Every run is a process of its own (benchmarks/training_run.py) and leaves a JSON file in a work
folder. What is there is not run again: stopped at any time, `make bench` goes on, and the section
is made from whatever there is.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import training_page
from benchmarks.page import processor, put
from benchmarks.sets import ROOT, SETS

TRAINERS = ("trainer", "nlpkit", "trainer-best", "bare", "lightning", "naive")
TRAINED = ("nlpkit", "trainer", "trainer-best", "lightning")  # to the end, for their accuracy
STEPS = {"banking77": (60, 5), "imdb5k": (12, 2)}  # and how many of them do not count
SINGLE = {"banking77": (240, 20), "imdb5k": (100, 20)}  # of the naive loop, one sample each
EMULATED = {"banking77": (12, 2), "imdb5k": (3, 1)}  # of bf16 on a CPU that was not made for it
DRY = (3, 1)
LONG = {  # beside the accuracy run of imdb5k, which truncates at 256
    "truncate-128": ("tokenizer.max_length=128",),
    "window-256": ("tokenizer.max_length=256", "task.long_text=window"),
}


@dataclass(frozen=True)
class Job:
    """A run to be measured.

    Attributes:
        name: Of its file, without the suffix.
        arguments: What benchmarks.training_run is told.
    """

    name: str
    arguments: tuple[str, ...]

    def file(self, work: Path) -> Path:
        """Where its numbers are, once it has run."""
        return work / f"{self.name}.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what has not been run, and writes the section."""
    options = parsed(arguments)
    if options.dry:
        with tempfile.TemporaryDirectory() as folder:
            options.work = Path(folder)
            write_words(options.work / "data")
            os.environ["NLPKIT_TEST_DATA"] = str(options.work / "data")
            failed = run_all(options)
            print(training_page.section(options.work, draw=options.work / "plot.svg"))
    else:
        if options.fresh:
            shutil.rmtree(options.work, ignore_errors=True)
        failed = run_all(options)
        put("Training", training_page.section(options.work, draw=training_page.PLOT))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; another `make bench` tries again")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--only", choices=("speed", "accuracy", "page"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), help="of the speed")
    parser.add_argument("--fresh", action="store_true", help="forget what has been measured")
    parser.add_argument("--dry", action="store_true", help="tries it on a few random words")
    options = parser.parse_args(arguments)
    if options.dry:
        options.rounds = 1
    options.precisions = options.precisions or (["fp32"] if options.dry else ["fp32", "bf16"])
    return options


def run_all(options: argparse.Namespace) -> list[str]:
    """Runs the jobs that have no file yet; the names of those that failed."""
    jobs = {"speed": speed_jobs(options), "accuracy": accuracy_jobs(), "page": ()}
    wanted = jobs[options.only] if options.only else (*jobs["speed"], *jobs["accuracy"])
    return [
        job.name for job in wanted if not job.file(options.work).exists() and not run(job, options)
    ]


def speed_jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Round by round all trainers in turn, every other round the other way around."""
    arms = [(name, precision) for name in TRAINERS for precision in options.precisions]
    emulated = not made_for_bf16()
    for turn in range(options.rounds):
        for data in SETS:
            for trainer, precision in arms[:: -1 if turn % 2 else 1]:
                counts = EMULATED if emulated and precision == "bf16" else STEPS
                counts = SINGLE if trainer == "naive" else counts
                steps, skipped = DRY if options.dry else counts[data]
                yield Job(
                    f"speed-{data}-{trainer}-{precision}-{turn}",
                    (
                        *(trainer, data, "--precision", precision, "--seed", str(turn)),
                        *("--steps", str(steps), "--skipped", str(skipped)),
                    ),
                )


def accuracy_jobs() -> Iterator[Job]:
    """Whole trainings: in fp32, and in bf16 where the CPU is made for it."""
    fast = made_for_bf16()
    for data in SETS:
        for trainer in TRAINED:
            for precision in ("fp32", "bf16") if fast else ("fp32",):
                yield Job(
                    f"accuracy-{data}-{trainer}-{precision}",
                    (trainer, data, "--precision", precision),
                )
    precision = "bf16" if fast else "fp32"
    for name, overrides in LONG.items():
        arguments = ("nlpkit", "imdb5k", "--precision", precision, "--set", *overrides)
        yield Job(f"long-{name}", arguments)


def made_for_bf16() -> bool:
    """Whether the CPU has instructions for it; without, a step takes some twenty times as long."""
    return processor().endswith("with bf16")


def run(job: Job, options: argparse.Namespace) -> bool:
    """Runs a job; whether it came to an end."""
    file = job.file(options.work)
    print(f"{job.name} …", file=sys.stderr, flush=True)
    # What is said of trainings and of threads here holds for every trainer.
    environment = {
        **{name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
        "NLPKIT_CACHE": str(options.work / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "benchmarks.training_run", *job.arguments, "--out", str(file)]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if ran.returncode or not file.exists():
        print(ran.stderr[-2000:], file=sys.stderr, flush=True)
        return False
    print(ran.stdout.splitlines()[-1], file=sys.stderr, flush=True)
    return True


def write_words(folder: Path) -> None:
    """Data sets of random words in miniature, under the names of the real ones."""
    generator = random.Random(0)
    for name, rows in SETS.items():
        for split, count in (("train", 160), ("test", 32)):
            lines = [f"text,{rows.label}"]
            for index in range(count):
                words = generator.choices(("card", "money", "film", "bank"), k=3 + index % 30)
                lines.append(f"{' '.join(words)},label {index % 2}")
            path = folder / name / f"{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
