"""Entities on real data beside transformers' Trainer: a section of docs/benchmarks.md.

`make bench-entities` needs wnut17 (CC BY 4.0, Derczynski et al. 2017) as train.conll, dev.conll and
test.conll in the folder that NLPKIT_TEST_DATA names.
"""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import transformers
from seqeval.metrics import f1_score

import nlpkit
from benchmarks.page import processor, put, table
from benchmarks.sets import FOLDER, MINILM
from nlpkit.environment import threads_per_rank

DATA = FOLDER / "wnut17"
SEEDS = (1, 2, 3)
EPOCHS, BATCH, RATE, LONGEST = 3, 16, 3e-4, 128
CONFIG: dict[str, Any] = {
    "task": {"name": "token", "text": "tokens", "label": "tags"},
    "data": {
        split: str(DATA / f"{name}.conll")
        for split, name in (("train", "train"), ("validation", "dev"), ("test", "test"))
    },
    "tokenizer": {"max_length": LONGEST},
    "precision": "fp32",
    "observers": [],
}
PRETRAINED: dict[str, Any] = {
    **CONFIG,
    "name": "wnut17",
    "model": {"name": "bert", "pretrained": str(MINILM)},
    "train": {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE},
}
SCRATCH: dict[str, Any] = {
    **CONFIG,
    "name": "wnut17-transformer",
    "model": {"name": "transformer", "layers": 2, "hidden": 128, "dropout": 0.2},
    "train": {"epochs": 15, "batch_size": BATCH, "learning_rate": 1e-3},
}
HEAD = """
Measured by `make bench-entities` with torch {torch}, transformers {transformers}, Python {python},
threads: {threads}, one CPU ({processor}). wnut17, as it is split; entity F1 on the test rows of the
epoch that is best on the validation rows, {seeds} seeds, mean and each. nlpkit's is that of
result.json, which equals seqeval's on the written predictions to {gap:.0e}. transformers' Trainer
has the same MiniLM-L6 with `AutoModelForTokenClassification`, the same alignment (the first piece
of a word), {epochs} epochs of {batch} rows a step at {rate}, warm-up over a tenth and then linear.

"""


def main() -> None:
    """Trains everything and writes the section."""
    with tempfile.TemporaryDirectory() as folder:
        ours, gaps = zip(*(_nlpkit(PRETRAINED, seed, Path(folder)) for seed in SEEDS), strict=True)
        theirs = [_trainer(seed, Path(folder)) for seed in SEEDS]
        scratch, _ = _nlpkit(SCRATCH, SEEDS[0], Path(folder))
    rows = [
        ["nlpkit, `bert` from MiniLM-L6", _shown(ours)],
        ["transformers' Trainer, the same", _shown(theirs)],
        ["nlpkit, `transformer` from scratch, 2 layers of 128, 15 epochs", _shown([scratch])],
    ]
    head = HEAD.format(
        torch=torch.__version__.split("+")[0],
        transformers=transformers.__version__,
        python=platform.python_version(),
        threads=threads_per_rank(1),
        processor=processor(),
        seeds=len(SEEDS),
        gap=max(gaps),
        epochs=EPOCHS,
        batch=BATCH,
        rate=RATE,
    )
    put("Entities", head + table(["", "F1", "each"], rows))


def _shown(values: Any) -> str:
    return f"{mean(values):.3f} | {', '.join(f'{value:.3f}' for value in values)}"


def _nlpkit(config: dict[str, Any], seed: int, folder: Path) -> tuple[float, float]:
    """F1 on the test rows, and how far it is from seqeval's on the predictions of these."""
    out = folder / f"{config['name']}-{seed}"
    run = nlpkit.train({**config, "seed": seed}, out=out)
    sentences = _sentences("test")
    gold = [tags for _, tags in sentences]
    said = [
        _tags(len(tags), line["prediction"])
        for (_, tags), line in zip(sentences, run.predictions("test"), strict=True)
    ]
    f1: float = run.metrics["test"]["f1"]
    return f1, abs(f1 - f1_score(gold, said))


def _tags(words: int, entities: list[dict[str, Any]]) -> list[str]:
    """Entities by words as BIO."""
    tags = ["O"] * words
    for entity in entities:
        for place in range(entity["start"], entity["end"]):
            tags[place] = f"{'B' if place == entity['start'] else 'I'}-{entity['label']}"
    return tags


def _sentences(split: str) -> list[tuple[list[str], list[str]]]:
    found: list[tuple[list[str], list[str]]] = [([], [])]
    for line in (DATA / f"{split}.conll").read_text(encoding="utf-8").split("\n"):
        if line.strip():
            word, tag = line.split("\t")
            found[-1][0].append(word)
            found[-1][1].append(tag)
        elif found[-1][0]:
            found.append(([], []))
    return [each for each in found if each[0]]


def _trainer(seed: int, folder: Path) -> float:
    """F1 of transformers' Trainer on the test rows, as its documentation trains it."""
    data = {split: _sentences(split) for split in ("train", "dev", "test")}
    names = sorted({tag for _, tags in data["train"] for tag in tags})
    ids = {name: number for number, name in enumerate(names)}
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)

    def encoded(words: list[str], tags: list[str]) -> dict[str, list[int]]:
        found = tokenizer(words, is_split_into_words=True, truncation=True, max_length=LONGEST)
        places = found.word_ids()
        first = [
            -100 if place is None or place == before else ids[tags[place]]
            for before, place in zip([None, *places], places, strict=False)
        ]
        return {**found, "labels": first}

    sets: Any = {split: [encoded(*each) for each in rows] for split, rows in data.items()}

    def values(said: Any) -> dict[str, float]:
        known, best = said.label_ids, np.argmax(said.predictions, axis=-1)
        pairs = [(row[row >= 0], found[row >= 0]) for row, found in zip(known, best, strict=True)]
        gold, mine = (
            [[names[tag] for tag in each] for each in side] for side in zip(*pairs, strict=True)
        )
        return {"f1": float(f1_score(gold, mine))}

    def model() -> Any:
        return transformers.AutoModelForTokenClassification.from_pretrained(
            MINILM, num_labels=len(names)
        )

    trainer = transformers.Trainer(
        model_init=model,
        args=transformers.TrainingArguments(
            output_dir=str(folder / f"trainer-{seed}"),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=64,
            learning_rate=RATE,
            weight_decay=0.01,
            warmup_steps=0.1,  # of all
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="f1",
            seed=seed,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        data_collator=transformers.DataCollatorForTokenClassification(tokenizer),
        train_dataset=sets["train"],
        eval_dataset=sets["dev"],
        compute_metrics=values,
    )
    trainer.train()
    f1: float = trainer.evaluate(sets["test"])["eval_f1"]
    return f1


if __name__ == "__main__":
    main()
