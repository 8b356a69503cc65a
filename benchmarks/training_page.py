"""The section that benchmarks/training.py writes, from the numbers of its runs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.page import PAGE, table
from benchmarks.sets import SETS

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "nlpkit"

PLOT = PAGE.with_name("training-speed.svg")
TITLES = {
    "nlpkit": "nlpkit",
    "trainer": "Trainer, defaults",
    "trainer-best": "Trainer, best options",
    "lightning": "Lightning",
    "bare": "bare loop",
    "naive": "naive loop",
}
COLOURS = {"fp32": "C0", "bf16": "C1"}
DEFAULT = ("trainer", "fp32")
COLUMNS = [
    *("trainer", "precision", "samples/s", "from – to", "× Trainer's defaults"),
    *("memory, MB", "padding", "accuracy"),
]
TEXT = """
Measured by `make bench` with torch {torch}, transformers {transformers}, Lightning {lightning},
Python {python}, {threads} threads of one CPU ({processor}). All train the same MiniLM-L6 from
the same weights: 32 samples a step, AdamW at 1e-4 with weight decay 0.01, warm-up over a tenth of
the steps and then linear, clipping at 1; {epochs}.

- nlpkit: `nlpkit.train` with its defaults; `precision: auto` takes {auto} here.
- Trainer: that of transformers, texts tokenized ahead and padded to the longest of a batch; its
  best options are `group_by_length`, 2 loader workers, and bf16 where the row says so.
- Lightning: a module and a DataLoader as its documentation writes them, padded likewise.
- bare loop: plain PyTorch, fused AdamW and transformers' encoder over the batches that nlpkit's
  loader makes. nlpkit ÷ bare loop is what its own code costs (below 1) or gains (above 1).
- naive loop: one sample at a time, padded to the full length, without clipping and schedule.

Samples per second of training steps, without the first few; the median of {rounds} rounds in which
all take turns, ratios the median of each round's. Where batches are of like length, those measured
are as long on average as all of the epoch's, to 1%. Memory is the peak of anonymous memory of the
process and its loader workers; what they share counts once. "padding" is the share of what is
computed in a whole training; where a trainer has no accuracy, in the measured steps (the bare loop
has nlpkit's batches). Accuracy on the test rows is that of whole trainings, one each, without
validation, after the last step; nlpkit's head takes the mean of the tokens, that of the peers
(`AutoModelForSequenceClassification`) BERT's pooler of the first one.
{tables}
nlpkit with `precision: auto`, and each of the others in the faster of its precisions (but for the
Trainer's defaults: fp32); in brackets the lowest and the highest of the rounds:

{ratios}
{bf16}
![Samples per second of each trainer](training-speed.svg)
"""
WINDOWS = """
### Long texts

imdb5k with nlpkit, {epochs}; {precision}. Texts per second of a whole training.

{table}
"""

Run = dict[str, Any]
Speeds = dict[tuple[str, str], dict[int, float]]


def section(work: Path, *, draw: Path) -> str:
    """What the page says of the runs in a folder; `draw` is where the plot goes."""
    runs = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(work.glob("*.json"))}
    found = {data: Measured(data, runs) for data in SETS}
    plot(found, draw)
    rounds = {len(each) for data in found.values() for each in data.speeds.values()}
    timed = [run for name, run in runs.items() if name.startswith("speed-")]
    text = TEXT.format(
        **{name: said(runs.values(), name) for name in ("torch", "transformers", "lightning")},
        **{name: said(runs.values(), name) for name in ("python", "processor", "auto")},
        threads=said(timed, "threads"),
        epochs=", ".join(f"{rows.epochs} epochs of {name}" for name, rows in SETS.items()).replace(
            "1 epochs", "1 epoch"
        ),
        rounds=" to ".join(map(str, sorted({min(rounds, default=0), max(rounds, default=0)}))),
        tables="".join(f"\n### {data}\n\n{each.table()}" for data, each in found.items()),
        ratios=table(
            ["nlpkit ÷", *(TITLES[name] for name in TITLES if name != "nlpkit")],
            [[data, *each.ratios()] for data, each in found.items()],
        ),
        bf16=of_bf16(found.values(), emulated="no bf16" in said(runs.values(), "processor")),
    )
    return text + windows(runs)


def said(runs: Iterable[Run], name: str) -> str:
    """What the runs say of something; all of it, where they do not agree."""
    return " or ".join(sorted({str(run[name]) for run in runs if name in run})) or "–"


class Measured:
    """What was found on one data set.

    Attributes:
        speeds: Samples per second by trainer and precision, then by round.
        runs: The runs that measured speed, likewise.
        accuracies: By trainer and precision.
        padding: By trainer, of whole trainings.
        auto: The precision that nlpkit takes by itself.
    """

    def __init__(self, data: str, runs: dict[str, Run]) -> None:
        self.data = data
        self.speeds: Speeds = {}
        self.runs: dict[tuple[str, str], list[Run]] = {}
        self.accuracies: dict[tuple[str, str], float] = {}
        self.padding: dict[str, float] = {}
        for name, run in runs.items():
            key = (run["trainer"], run["precision"])
            if name.startswith(f"speed-{data}-"):
                turn = int(name.rpartition("-")[2])
                self.speeds.setdefault(key, {})[turn] = run["samples_per_second"]
                self.runs.setdefault(key, []).append(run)
            if name.startswith(f"accuracy-{data}-"):
                self.accuracies[key] = run["accuracy"]
                self.padding[key[0]] = run["padding"]
        if "nlpkit" in self.padding:
            self.padding["bare"] = self.padding["nlpkit"]  # the same batches
        self.auto = next((run["auto"] for run in runs.values()), "fp32")

    def keys(self) -> list[tuple[str, str]]:
        """Trainers and precisions of which there is anything, in the order of the table."""
        keys = self.speeds.keys() | self.accuracies.keys()
        return sorted(keys, key=lambda key: (list(TITLES).index(key[0]), key[1] != "fp32"))

    def table(self) -> str:
        """A line of each."""
        return table(COLUMNS, [self._line(key) for key in self.keys()])

    def _line(self, key: tuple[str, str]) -> list[str]:
        speeds, runs = self.speeds.get(key, {}).values(), self.runs.get(key, [])
        ratio = self.ratio(key, DEFAULT)
        accuracy = self.accuracies.get(key)
        padding = self.padding.get(key[0])
        if padding is None and runs:
            padding = statistics.mean(run["padding"] for run in runs)
        return [
            TITLES[key[0]],
            key[1],
            f"{statistics.median(speeds):.1f}" if speeds else "",
            f"{min(speeds):.1f} – {max(speeds):.1f}" if speeds else "",
            f"{statistics.median(ratio):.2f}" if ratio else "",
            f"{max(run['peak_mb'] for run in runs):,.0f}" if runs else "",
            "" if padding is None else f"{padding:.1%}",
            "" if accuracy is None else f"{accuracy:.3f}",
        ]

    def ratio(self, key: tuple[str, str], other: tuple[str, str] | None) -> list[float]:
        """Of each round that both were in."""
        ours, theirs = self.speeds.get(key, {}), self.speeds.get(other or ("", ""), {})
        return [ours[turn] / theirs[turn] for turn in sorted(ours.keys() & theirs.keys())]

    def best(self, trainer: str) -> tuple[str, str] | None:
        """The trainer in the precision that it is fastest in."""
        keys = [key for key in self.speeds if key[0] == trainer]
        return max(keys, key=lambda key: statistics.median(self.speeds[key].values()), default=None)

    def ratios(self) -> list[str]:
        """nlpkit by itself to each of the others."""
        found = []
        for trainer in TITLES:
            if trainer != "nlpkit":
                other = DEFAULT if trainer == DEFAULT[0] else self.best(trainer)
                each = self.ratio(("nlpkit", self.auto), other)
                found.append(
                    f"{statistics.median(each):.2f} ({min(each):.2f} – {max(each):.2f})"
                    if each
                    else ""
                )
        return found


def of_bf16(found: Iterable[Measured], *, emulated: bool) -> str:
    """Sentences on what bf16 does for the speed of nlpkit, and of the best of Trainer."""
    said = ["The CPU has no bf16 instructions: torch emulates them."] * emulated
    for each in found:
        for trainer in ("nlpkit", "trainer-best"):
            if ratios := each.ratio((trainer, "bf16"), (trainer, "fp32")):
                times = f"{statistics.median(ratios):.2f} times as fast as fp32"
                said.append(f"On {each.data} bf16 is {times} with {TITLES[trainer]}.")
    return "\n".join(said) + "\n" * bool(said)


def windows(runs: dict[str, Run]) -> str:
    """The table of long texts, or nothing where there are no such runs."""
    found = {name: run for name, run in runs.items() if name.startswith("long-")}
    if not found:
        return ""
    precision = said(found.values(), "precision")
    if run := runs.get(f"accuracy-imdb5k-nlpkit-{precision}"):
        found["long-truncate-256"] = run
    lines = []
    for name, run in sorted(found.items()):
        kind, length = name.removeprefix("long-").split("-")
        lines.append([kind, length, f"{run['accuracy']:.3f}", f"{run['samples_per_second']:.1f}"])
    titles = ["`task.long_text`", "`tokenizer.max_length`", "accuracy", "texts/s"]
    epochs = said(found.values(), "epochs")
    return WINDOWS.format(
        table=table(titles, lines),
        epochs=f"{epochs} epoch{'s' * (epochs != '1')}",
        precision=precision,
    )


def plot(found: dict[str, Measured], path: Path) -> None:
    """Draws samples per second of each trainer, with the lowest and the highest round."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(10, 3.6), sharey=True)
    names = list(TITLES)[::-1]
    for panel, (data, measured) in zip(panels, found.items(), strict=True):
        for offset, (precision, colour) in zip((0.2, -0.2), COLOURS.items(), strict=True):
            keys = [(name, precision) for name in names if (name, precision) in measured.speeds]
            if not keys:
                continue
            speeds = [list(measured.speeds[key].values()) for key in keys]
            medians = [statistics.median(each) for each in speeds]
            below = [middle - min(each) for middle, each in zip(medians, speeds, strict=True)]
            above = [max(each) - middle for middle, each in zip(medians, speeds, strict=True)]
            bars = panel.barh(
                [names.index(name) + offset for name, _ in keys],
                medians,
                height=0.38,
                xerr=[below, above],
                color=colour,
                ecolor="dimgray",
                label=precision,
            )
            panel.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        panel.set_title(data)
        panel.set_yticks(range(len(names)), [TITLES[name] for name in names])
        panel.set_xlabel("samples/s")
        panel.margins(x=0.12)
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    panels[0].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
