"""Like for like by head: a section of docs/benchmarks.md (`make bench-heads`).

Takes banking77 where benchmarks/sets.py says. nlpkit and transformers' Trainer begin with the same
encoder, under the head of transformers and under a mean of tokens with a linear layer, each at the
best of three rates by validation. What has been measured is kept, run by run.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import datasets
import numpy as np
import torch
import transformers

import nlpkit
from benchmarks.page import table
from benchmarks.parts import Found, Part, Work, machines, main
from benchmarks.sets import MINILM, SETS
from benchmarks.training_peers import Bare

BANKING, BATCH, DECAY, WARM_UP, EPOCHS = SETS["banking77"], 16, 0.01, 0.1, 3
RATES, SEEDS = (5e-5, 1e-4, 2e-4), (1, 2, 3, 4, 5)
TEXT = """
Measured by `make bench-heads` with {machine}: banking77, a tenth of the training rows held out for
validation, {epochs} epochs of batches of {batch}, linear decay after {warm_up:.0%} of warm-up,
weight decay {decay}, from MiniLM-L6. Of the rates {rates} each takes the one that is the best on
validation rows for its first seed; accuracy is that on the test rows after the last epoch.

{table}
"""


class Pooled(Bare):
    """Mean pooling, dropout and a linear layer, as Trainer takes a model."""

    def forward(self, labels: torch.Tensor, **inputs: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """The loss and the logits."""
        logits = super().forward(**inputs)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def nlpkit_with(work: Work, head: str, rate: float, seed: int) -> Found:
    """A run of nlpkit."""
    out = work.path / "runs" / f"nlpkit-{head}"
    shutil.rmtree(out, ignore_errors=True)
    config = {
        "name": out.name,
        "seed": seed,
        "task": {"name": "sequence", "label": BANKING.label},
        "data": {"validation": str(part(work, "validation")), "train": str(part(work, "train"))},
        "model": {"name": "bert", "pretrained": str(MINILM), "head": head},
        "train": {
            **{"epochs": EPOCHS, "batch_size": BATCH, "weight_decay": DECAY},
            **{"learning_rate": rate, "warmup_ratio": WARM_UP, "schedule": "linear"},
            **({"max_steps": 2} if work.smoke else {}),
        },
        "tokenizer": {"max_length": BANKING.max_length},
        "device": "cpu",
        "precision": "fp32",
        "observers": [],
    }
    run = nlpkit.train(config, out=out)
    last = [line for line in run.history if line["split"] == "validation"][-1]
    test = nlpkit.evaluate(run, part(work, "test"))
    return {"validation": last["accuracy"], "test": test["accuracy"]}


def trainer_with(work: Work, head: str, rate: float, seed: int) -> Found:
    """A run of transformers' Trainer."""
    transformers.set_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
    labels = sorted({label for _, label in read(part(work, "train"))})
    ids = {label: number for number, label in enumerate(labels)}

    def rows(split: str) -> datasets.Dataset:
        texts, names = zip(*read(part(work, split)), strict=True)
        found = tokenizer([*texts], truncation=True, max_length=BANKING.max_length)
        return datasets.Dataset.from_dict({**found, "labels": [ids[name] for name in names]})

    auto = transformers.AutoModelForSequenceClassification
    model = (
        auto.from_pretrained(MINILM, num_labels=len(labels), dtype=torch.float32)
        if head == "transformers"
        else Pooled(len(labels))
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=folder,
                seed=seed,
                num_train_epochs=EPOCHS,
                max_steps=2 if work.smoke else -1,
                per_device_train_batch_size=BATCH,
                per_device_eval_batch_size=64,
                learning_rate=rate,
                weight_decay=DECAY,
                warmup_steps=WARM_UP,  # of all
                report_to=[],
                remove_unused_columns=False,  # which are those that a model's forward names
                save_strategy="no",
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=rows("train"),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda said: {
                "accuracy": float(np.mean(said.predictions.argmax(-1) == said.label_ids))
            },
        )
        trainer.train()
        return {
            split: trainer.evaluate(rows(split))["eval_accuracy"]
            for split in ("validation", "test")
        }


ARMS: dict[str, tuple[Callable[[Work, str, float, int], Found], str, str]] = {
    "nlpkit-mean": (nlpkit_with, "nlpkit", "nlpkit, `head: nlpkit` (mean)"),
    "trainer-mean": (trainer_with, "nlpkit", "Trainer, a mean-pooling head"),
    "nlpkit-own": (nlpkit_with, "transformers", "nlpkit, `head: transformers`"),
    "trainer-own": (trainer_with, "transformers", "Trainer, the same"),
}


def measure(work: Work) -> None:
    """The rates with the first seed, and then the other seeds at the best one."""
    for arm, (train, head, _) in ARMS.items():
        for rate in RATES[: 1 if work.smoke else None]:
            kept(work, train, head, arm, rate, SEEDS[0])
        for seed in SEEDS[1 : 1 if work.smoke else None]:
            kept(work, train, head, arm, best_rate(work, arm), seed)


def kept(
    work: Work,
    train: Callable[[Work, str, float, int], Found],
    head: str,
    arm: str,
    rate: float,
    seed: int,
) -> None:
    """A run that has been done, or is done now."""
    work.kept(f"{arm}-{rate:g}-{seed}", lambda: train(work, head, rate, seed))


def best_rate(work: Work, arm: str) -> float:
    """Of those that were tried the best one on validation rows."""
    found = work.found(f"{arm}-*-{SEEDS[0]}")
    tried = [rate for rate in RATES if f"{arm}-{rate:g}-{SEEDS[0]}" in found]
    return max(tried, key=lambda rate: found[f"{arm}-{rate:g}-{SEEDS[0]}"]["validation"])


def text(work: Work) -> str:
    """A line an arm that is whole."""
    found, rows = work.found("*-*-*"), []
    for arm, (_, _, title) in ARMS.items():
        if not work.found(f"{arm}-*-{SEEDS[0]}"):
            continue
        rate = best_rate(work, arm)
        names = [f"{arm}-{rate:g}-{seed}" for seed in SEEDS]
        values = [found[name]["test"] for name in names if name in found]
        spread = f"{stdev(values):.3f}" if len(values) > 1 else ""
        each = ", ".join(f"{value:.3f}" for value in values)
        rows.append([title, f"{rate:g}", f"{mean(values):.3f}", spread, each])
    if not rows:
        return ""
    return TEXT.format(
        machine=machines(found),
        epochs=EPOCHS,
        batch=BATCH,
        warm_up=WARM_UP,
        decay=DECAY,
        rates=", ".join(f"{rate:g}" for rate in RATES),
        table=table(["", "rate", "accuracy", "standard deviation", "each"], rows),
    )


def part(work: Work, name: str) -> Path:
    """The rows of the test file, of every tenth of the training file, or of the rest."""
    path = work.path / f"{name}.csv"
    if not path.exists():
        rows = [*zip(*BANKING.read("test" if name == "test" else "train"), strict=True)]
        chosen = [*range(0, len(rows), 10)]
        held_out = [rows[at] for at in chosen]
        if name == "train":
            rows = [row for at, row in enumerate(rows) if at % 10]
        rows = held_out if name == "validation" else rows
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", BANKING.label), *rows])
    return path


def read(path: Path) -> list[tuple[str, str]]:
    """Texts and labels."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row[BANKING.label]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    main("heads", "Heads", {"heads": Part(measure, text)})
