"""What masked language models are good for: a section of docs/benchmarks.md (`make bench-masked`).

Takes banking77 and imdb5k where benchmarks/sets.py says. Parts: `pretrained` and `scratch`, a
classifier of few rows with and without a masked model before it; `reviews`, beside a plain loop.
"""

from __future__ import annotations

import csv
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

import nlpkit
from benchmarks.page import table
from benchmarks.parts import Found, Part, Work, machines, main
from benchmarks.plain import Setting, reader
from benchmarks.sets import MINILM, SETS, Rows
from benchmarks.turns import OBSERVED, curves, taking_turns
from nlpkit.cli.render import Terminal
from nlpkit.config.resolve import resolve
from nlpkit.data.loader import Loading, evaluation_batches
from nlpkit.data.prepare import prepare
from nlpkit.plugin.host import Host

SEEDS, A_CLASS = (1, 2, 3, 4, 5), 10
BANKING, REVIEWS = SETS["banking77"], SETS["imdb5k"]
COMMON: dict[str, Any] = {"device": "cpu", "precision": "fp32", "observers": []}
SIZES = {"name": "transformer", "layers": 4, "hidden": 256, "heads": 4, "dropout": 0.1}
BEGINNINGS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "pretrained": (
        {"name": "bert", "pretrained": str(MINILM)},
        {"epochs": 10, "batch_size": 32},
        {"epochs": 20, "batch_size": 16},
    ),
    "scratch": (
        SIZES,
        {"epochs": 40, "batch_size": 32, "learning_rate": 1e-3},
        {"epochs": 40, "batch_size": 16},
    ),
}
"""By part the model, and how it is trained to tell tokens and then labels."""
NAMES = {
    "pretrained": "`bert` from MiniLM-L6",
    "scratch": f"`transformer` from scratch, {SIZES['layers']} layers of {SIZES['hidden']}",
}
ARMS = {"without": "as it is", "with": "after `mlm` on all training texts"}
STEPS, PIECES, RIVAL = 800, 4, "plain loop"
FEW = """
Measured by `make bench-masked` with {machine}. banking77 with {count} rows of each of its 77
labels, other ones by seed; accuracy on the test rows after the last epoch, {seeds} seeds. `mlm`
sees the texts of all training rows, and no label.

{table}
"""
ALONE = """
### Beside a plain loop

Measured with {machine}: `mlm` on the reviews of imdb5k, {layers} layers of {hidden} from scratch,
a WordPiece tokenizer of 8,000 tokens, {context} tokens a row, {batch} rows a step, AdamW at {rate}
with {warmup} steps of warm-up and a cosine. The plain loop cuts texts one after the other into full
rows, which see all that is in them. Nats are those of the hidden tokens of the test rows, the same
tokens hidden for both. Both train in one process, in turn after each quarter; seconds are those of
training steps alone.

{table}
"""


def few(work: Work, part: str) -> None:
    """A masked model, and classifiers with and without it."""
    model, masking, labelling = BEGINNINGS[part]
    if work.smoke:
        masking, labelling = {**masking, "max_steps": 2}, {**labelling, "max_steps": 2}
    before = work.path / "runs" / part

    def masked() -> Found:
        train = file(work, BANKING, "train")
        config = {"task": "mlm", "data": {"train": train, "validation": 0.1}, "model": model}
        return run_of(before, {**config, "train": masking}).metrics["validation"]

    work.kept(f"{part}-mlm", masked)
    begun = {**model, "pretrained": str(before)}
    if part == "scratch":
        begun = {"name": model["name"], "pretrained": str(before)}  # whose sizes it has
    for seed in SEEDS[: 1 if work.smoke else None]:
        data = {"train": str(drawn(work, seed)), "test": file(work, BANKING, "test")}
        for arm, chosen in {"without": model, "with": begun}.items():
            task = {"name": "sequence", "label": BANKING.label}
            config = {"task": task, "data": {**data, "validation": None}, "model": chosen}
            config |= {"train": labelling, "seed": seed, "eval": {"predictions": False}}
            out = work.path / "runs" / f"{part}-{arm}"
            work.kept(
                f"{part}-few-{arm}-{seed}",
                lambda out=out, config=config: run_of(out, config).metrics["test"],
            )


def run_of(out: Path, config: Mapping[str, Any]) -> nlpkit.Run:
    """A new run in this folder."""
    shutil.rmtree(out, ignore_errors=True)
    return nlpkit.train({**COMMON, "name": out.name, **config}, out=out)


def drawn(work: Work, seed: int) -> Path:
    """A file of some rows of each label, in the order of the whole file."""
    rows = [*enumerate(zip(*BANKING.read("train"), strict=True))]
    random.Random(seed).shuffle(rows)
    chosen, counts = [], Counter[str]()
    for at, (text, label) in rows:
        counts[label] += 1
        if counts[label] <= A_CLASS:
            chosen.append((at, (text, label)))
    path = work.path / f"few-{seed}.csv"
    write(path, BANKING, [row for _, row in sorted(chosen)])
    return path


def few_text(work: Work) -> str:
    """A line an arm."""
    found = work.found("*-few-*")
    rows = []
    for part, title in NAMES.items():
        for arm, said in ARMS.items():
            values = [
                each["accuracy"]
                for name, each in found.items()
                if name.startswith(f"{part}-few-{arm}-")
            ]
            if values:
                spread = f"{stdev(values):.3f}" if len(values) > 1 else ""
                each = ", ".join(f"{value:.3f}" for value in values)
                rows.append([title, said, f"{mean(values):.3f}", spread, each])
    if not rows:
        return ""
    return FEW.format(
        machine=machines(found),
        count=A_CLASS,
        seeds=len(SEEDS),
        table=table(["model", "begins", "accuracy", "standard deviation", "each"], rows),
    )


def reviews(work: Work) -> None:
    """Both in turn."""
    work.kept("reviews", lambda: duel(work))


def duel(work: Work) -> Found:
    """The masked model of nlpkit and the plain loop's."""
    steps = 8 if work.smoke else STEPS
    setting = Setting(
        vocabulary=8000,
        steps=steps,
        hidden=256,
        context=128,
        batch=4 if work.smoke else 32,
        rate=5e-4,
        least=0.0,
        warmup=min(100, steps // 4),
        betas=(0.9, 0.999),
        decay=0.01,
        causal=False,
    )
    config = {
        **COMMON,
        "name": "reviews",
        "task": "mlm",
        "data": {"train": file(work, REVIEWS, "train"), "validation": file(work, REVIEWS, "test")},
        "tokenizer": {"name": "wordpiece", "max_length": setting.context},
        "model": {**SIZES, "dropout": 0.0},
        "train": {
            "epochs": 1000,
            "max_steps": steps,
            "batch_size": setting.batch,
            "learning_rate": setting.rate,
            "schedule": "cosine",
            "warmup_ratio": setting.warmup / steps,
        },
        "eval": {"every": steps // PIECES},
        "checkpoint": {"every": steps},
    }
    out, rivals = work.path / "runs" / "reviews", {RIVAL: plain(config, setting)}
    run, arms = taking_turns(rivals, lambda: run_of(out, {**config, **OBSERVED}))
    lines = [line for line in run.history if line["split"] == "validation"]
    for piece, line in zip(arms["nlpkit"], lines, strict=True):
        piece["nats"] = line["loss"]
    about = {name: getattr(setting, name) for name in ("layers", "hidden", "context", "batch")}
    return {"steps": steps, "arms": arms, **about, "rate": setting.rate, "warmup": setting.warmup}


def plain(config: dict[str, Any], setting: Setting) -> Any:
    """The plain loop over the tokens that nlpkit prepares."""
    host = Host.discover()
    resolved = resolve(nlpkit.load_config(config), host)
    prepared = prepare(resolved, host, Terminal())
    codec, train = prepared.codec(resolved, host), prepared.stores["train"]
    rows = [torch.from_numpy(train[at]["input_ids"].astype("int64")) for at in range(len(train))]
    batches = evaluation_batches(prepared.stores["validation"], codec, 64, Loading())
    held_out = [{**each.inputs, "ids": each.targets["ids"]} for each in batches]
    special = codec.vocabulary.special
    return reader(
        setting,
        torch.cat(rows),
        held_out,
        PIECES,
        mask=special["mask"],
        special=[*special.values()],
    )


def file(work: Work, rows: Rows, split: str) -> str:
    """The file of a split; one of a few rows in miniature."""
    if not work.smoke:
        return str(rows.path(split))
    path, found = work.path / f"{rows.name}-{split}.csv", zip(*rows.read(split), strict=True)
    write(path, rows, [*found][:20])
    return str(path)


def write(path: Path, rows: Rows, chosen: Iterable[tuple[str, str]]) -> None:
    """A file of texts and labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([["text", rows.label], *chosen])


def reviews_text(work: Work) -> str:
    """The two curves."""
    found = work.found("reviews")
    if not found:
        return ""
    titles = ["steps", "nlpkit, s", "nats", f"{RIVAL}, s", "nats"]
    rows = curves(found.values())
    return ALONE.format(table=table(titles, rows), **found["reviews"])


PARTS = {
    "pretrained": Part(lambda work: few(work, "pretrained")),
    "scratch": Part(lambda work: few(work, "scratch"), few_text),
    "reviews": Part(reviews, reviews_text),
}


if __name__ == "__main__":
    main("masked", "Masked language models", PARTS)
