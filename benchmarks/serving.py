"""What batching gives `nlpkit serve`: a section of docs/benchmarks.md (`make bench-serving`).

Asks with the texts of banking77, which has to be where benchmarks/accuracy.py looks for it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nlpkit
from benchmarks.accuracy import BANKING, DATA, MINILM
from benchmarks.page import processor, put, table
from nlpkit.environment import threads_per_rank

ARMS = {"joined into batches": [], "one text at a time": ["--batch-size", "1"]}
NLPKIT = [sys.executable, "-c", "import sys; from nlpkit.cli.main import main; sys.exit(main())"]
TEXT = """
Measured by `make bench-serving` with Python {python}, {threads} threads of one CPU ({processor}):
`nlpkit serve` with `bert` from MiniLM-L6 on banking77 as {engine}. {clients} clients in another
process on the same CPU ask one text after the other for {seconds} seconds, each on a connection
that it keeps. Every label is compared with what `nlpkit predict` says of the text.

{table}
"""


def main() -> None:
    """Loads both servers in turn and writes the section."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__)
    parser.add_argument("--run", type=Path, help="A run on banking77; else one is trained briefly.")
    parser.add_argument("--backend", choices=["onnx", "torch"], default="onnx")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    with (DATA / "test.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.run or trained(folder / "run")
        if options.backend == "onnx":
            model = nlpkit.export(model, "onnx", out=folder / "onnx").path
        expected = predicted(model, texts, folder)
        for arm, more in ARMS.items():
            with served(model, folder / "log", more) as address:
                found = asyncio.run(load(address, expected, options.clients, options.seconds))
            print(f"{arm}: {found}", file=sys.stderr, flush=True)
            lines.append(line(arm, found))
    titles = ["texts are", "requests/s", "p50, ms", "p99, ms", "errors", "other labels"]
    put(
        "Serving",
        TEXT.format(
            python=platform.python_version(),
            threads=threads_per_rank(1),
            processor=processor(),
            engine={"onnx": "an ONNX export", "torch": "a bundle, run by torch"}[options.backend],
            clients=options.clients,
            seconds=options.seconds,
            table=table(titles, lines),
        ),
    )


def trained(out: Path) -> Path:
    """A run of the right size; how well it was trained is no matter for its speed."""
    config = {
        **BANKING,
        "name": "serving",
        "model": {"name": "bert", "pretrained": str(MINILM)},
        "train": {"max_steps": 60},
        "observers": [],
    }
    return nlpkit.train(config, out=out).path


def predicted(model: Path, texts: list[str], folder: Path) -> dict[str, str]:
    """The label of each text, by `nlpkit predict`."""
    asked, answered = folder / "asked.jsonl", folder / "answered.jsonl"
    asked.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    command = ["predict", str(model), "--input", str(asked), "--output", str(answered)]
    subprocess.run([*NLPKIT, *command], check=True)
    rows = map(json.loads, answered.read_text("utf-8").splitlines())
    return {row["text"]: row["label"] for row in rows}


@contextmanager
def served(model: Path, log: Path, options: list[str]) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address."""
    with log.open("wb") as file:
        command = [*NLPKIT, "serve", str(model), "--port", "0", *options]
        process = subprocess.Popen(command, stderr=file)
    try:
        while (found := re.search(r"answers at http://(.+):(\d+)\n", log.read_text())) is None:
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)
        yield found[1], int(found[2])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def load(
    address: tuple[str, int], expected: dict[str, str], clients: int, seconds: float
) -> dict[str, Any]:
    """What so many clients meet that ask at the same time."""
    texts, latencies = itertools.cycle(expected), list[float]()
    errors = others = 0

    async def client() -> None:
        nonlocal errors, others
        reader, writer = await asyncio.open_connection(*address)
        while time.perf_counter() < until:
            text, started = next(texts), time.perf_counter()
            status, answer = await ask(reader, writer, text)
            latencies.append(time.perf_counter() - started)
            errors += status != 200
            others += status == 200 and answer["predictions"][0]["label"] != expected[text]
        writer.close()

    started = time.perf_counter()
    until = started + seconds
    await asyncio.gather(*(client() for _ in range(clients)))
    rate = len(latencies) / (time.perf_counter() - started)
    cuts = statistics.quantiles(latencies, n=100)
    return {"rate": rate, "p50": cuts[49], "p99": cuts[98], "errors": errors, "others": others}


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str
) -> tuple[int, Any]:
    """Status and answer of one question; plain streams, which cost little beside the server."""
    body = json.dumps({"text": text}).encode()
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answered = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"content-length: (\d+)", answered)
    answer = await reader.readexactly(int(length[1]) if length else 0)
    return int(answered.split()[1]), json.loads(answer)


def line(arm: str, found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    return [
        arm,
        f"{found['rate']:.0f}",
        f"{found['p50'] * 1000:.0f}",
        f"{found['p99'] * 1000:.0f}",
        str(found["errors"]),
        str(found["others"]),
    ]


if __name__ == "__main__":
    main()
