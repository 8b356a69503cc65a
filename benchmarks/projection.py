"""Losses over a vocabulary in parts: a section of docs/benchmarks.md (`make bench-projection`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median
from typing import Any

from benchmarks.page import table
from benchmarks.parts import Found, Part, Work, machines, main
from nlpkit.environment import threads_per_rank

WORDS, HIDDEN, PLACES, ROUNDS = 50_257, 384, (2_048, 8_192, 32_768), 3
WAYS = ("parts", "plain")
COPIES = 3  # of all logits that the plain way has at a time
MEASURED = """
import json, sys, time
import torch
from torch.nn import functional
from nlpkit.nn import Projection, summed_cross_entropy

way, (places, words, width, threads) = sys.argv[1], map(int, sys.argv[2:])
torch.set_num_threads(threads)
hidden = torch.randn(places, width, requires_grad=True)
table = (torch.randn(words, width) / width).requires_grad_()
ids = torch.randint(0, words, (places,))


def loss(count):
    if way == "parts":
        return summed_cross_entropy(Projection(hidden[:count], table), ids[:count])
    logits = functional.linear(hidden[:count], table)
    return functional.cross_entropy(logits, ids[:count], reduction="sum")


def kilobytes(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


loss(2).backward()  # what a first call loads is no part of it
hidden.grad = table.grad = None
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the high-water mark begins anew
before, started = kilobytes("VmRSS"), time.perf_counter()
loss(places).backward()
seconds = time.perf_counter() - started
gradients = 4 * width * (places + words)
peak = 1024 * (kilobytes("VmHWM") - before) - gradients
print(json.dumps({"seconds": seconds, "bytes": peak}))
"""
TEXT = """
Measured by `make bench-projection` with {machine}: the summed cross-entropy of tokens over
{words:,} words from hidden states of {hidden}, forward and backward together, fp32. Memory is the
process's high-water mark above hidden states, the table, and the gradients of both; seconds are the
median of {rounds} processes, in turn. "plain" is torch's `linear` and `cross_entropy`, where this
machine has the memory for it.

{table}
"""


def measure(work: Work) -> None:
    """Each number of tokens."""
    for places in (64,) if work.smoke else PLACES:
        work.kept(f"projection-{places:06}", lambda places=places: both(places))


def both(places: int) -> Found:
    """Both ways in turn, or one where the other has no room."""
    room = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fits = COPIES * 4 * places * WORDS < 0.8 * room
    found: dict[str, list[Found]] = {way: [] for way in (WAYS if fits else WAYS[:1])}
    for turn in range(ROUNDS):
        for way in list(found)[:: -1 if turn % 2 else 1]:
            found[way].append(measured(way, places))
    return {"places": places, "ways": found}


def measured(way: str, places: int) -> Any:
    """Seconds and bytes, of a process of its own."""
    numbers = map(str, (places, WORDS, HIDDEN, threads_per_rank(1)))
    command = [sys.executable, "-c", MEASURED, way, *numbers]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def text(work: Work) -> str:
    """A line for each number of tokens."""
    found = work.found("projection-*")
    if not found:
        return ""
    rows = []
    for each in found.values():
        cells = [f"{each['places']:,}", f"{4 * each['places'] * WORDS / 1e6:,.0f}"]
        for way in WAYS:
            runs = each["ways"].get(way, [])
            cells.append(f"{max(run['bytes'] for run in runs) / 1e6:,.0f}" if runs else "")
            cells.append(f"{median(run['seconds'] for run in runs):.2f}" if runs else "")
        pairs = zip(*(each["ways"].get(way, []) for way in WAYS), strict=False)
        ratios = [one["seconds"] / other["seconds"] for one, other in pairs]
        cells.append(f"{median(ratios):.2f}" if ratios else "")
        rows.append(cells)
    titles = ["tokens", "all logits, MB", "parts, MB", "s", "plain, MB", "s", "parts ÷ plain, time"]
    return TEXT.format(
        machine=machines(found),
        words=WORDS,
        hidden=HIDDEN,
        rounds=ROUNDS,
        table=table(titles, rows),
    )


if __name__ == "__main__":
    main("projection", "Losses over a vocabulary", {"projection": Part(measure, text)})
