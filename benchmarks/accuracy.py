"""Accuracy on real data beside its floor: a section of docs/benchmarks.md (`make accuracy`).

Needs banking77 (CC BY 4.0, Casanueva et al. 2020) as train.csv and test.csv with the columns `text`
and `category`, in the folder that NLPKIT_TEST_DATA names.
"""

from __future__ import annotations

import csv
import platform
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

import nlpkit
from benchmarks.page import processor, put
from benchmarks.sets import FOLDER, MINILM
from nlpkit.commands.demo import CONFIG as DEMO
from nlpkit.environment import threads_per_rank

DATA = FOLDER / "banking77"
BANKING: dict[str, Any] = {
    "task": {"name": "sequence", "label": "category"},
    "data": {"train": str(DATA / "train.csv"), "test": str(DATA / "test.csv")},
}
RUNS: dict[str, dict[str, Any]] = {
    "`bert` from MiniLM-L6, the defaults and 5 epochs": {
        **BANKING,
        "name": "banking77-minilm",
        "model": {"name": "bert", "pretrained": str(MINILM)},
        "train": {"epochs": 5},
    },
    "`transformer` from scratch, 2 layers of 128, 15 epochs": {
        **BANKING,
        "name": "banking77-transformer",
        "task": {**BANKING["task"], "label_smoothing": 0.1},
        "model": {"name": "transformer", "layers": 2, "hidden": 128, "dropout": 0.2},
        "train": {"epochs": 15, "learning_rate": 2e-3},
    },
}
HEAD = """
Measured by `make accuracy` with torch {torch}, Python {python}, {threads} threads of one CPU
({processor}), a tenth of the training rows held out for validation, the best epoch by validation
accuracy, accuracy on the test rows. "Floor" rows are TF-IDF over words and pairs of words with a
linear model (scikit-learn) on all training rows: what a Transformer has to beat.

"""


def main() -> None:
    """Trains everything and writes the section."""
    lines = ["| data | model | accuracy | training | samples/s | padding |", "|---" * 6 + "|"]
    lines.append(_floor("banking77", DATA, "category", LinearSVC(), "a linear SVM"))
    with tempfile.TemporaryDirectory() as folder:
        for title, config in RUNS.items():
            lines.append(_trained("banking77", title, config, Path(folder) / config["name"]))
        sample = Path(str(files("nlpkit_data"))) / "sample"
        logistic = LogisticRegression(C=10, max_iter=2000)
        lines.append(_floor("the sample", sample, "label", logistic, "logistic regression"))
        lines.append(_trained("the sample", "`nlpkit demo`", DEMO, Path(folder) / "demo"))
    head = HEAD.format(
        torch=torch.__version__.split("+")[0],
        python=platform.python_version(),
        threads=threads_per_rank(1),
        processor=processor(),
    )
    put("Accuracy", head + "\n".join(lines))


def _trained(data: str, title: str, config: dict[str, Any], out: Path) -> str:
    result = nlpkit.train(config, out=out).result
    minutes, seconds = divmod(round(result["training_seconds"]), 60)
    return (
        f"| {data} | {title} | {result['metrics']['test']['accuracy']:.3f} "
        f"| {minutes}:{seconds:02} min, {result['precision']} "
        f"| {result['samples_per_second']:.0f} | {result['padding_share']:.1%} |"
    )


def _floor(data: str, folder: Path, label: str, model: Any, title: str) -> str:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    train, test = _rows(folder / "train.csv", label), _rows(folder / "test.csv", label)
    model.fit(vectorizer.fit_transform(train[0]), train[1])
    accuracy = model.score(vectorizer.transform(test[0]), test[1])
    return f"| {data} | floor: TF-IDF with {title} | {accuracy:.3f} | | | |"


def _rows(path: Path, label: str) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row[label] for row in rows]


if __name__ == "__main__":
    main()
