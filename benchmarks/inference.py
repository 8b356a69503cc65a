"""How fast prediction is: a section of docs/benchmarks.md (`make bench-inference`).

Takes banking77 where benchmarks/accuracy.py does, and trains its MiniLM unless `--run` names a run
folder of it.
"""

from __future__ import annotations

import argparse
import csv
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

import nlpkit
from benchmarks.accuracy import DATA, MINILM, RUNS
from benchmarks.page import processor, put, table
from nlpkit.environment import threads_per_rank

PEER, EXACT, AUTO = "transformers' `pipeline`", "torch, fp32", "torch, `precision: auto`"
BATCH = 32
MODELS = {"model.safetensors", "model.onnx"}
TITLES = ["", "rows/s", "× `pipeline`", "from – to", "accuracy", "labels as fp32", "model, MB"]
TEXT = """
Measured by `make bench-inference` with torch {torch}, ONNX Runtime {onnx}, transformers
{transformers}, Python {python}, {threads} threads of one CPU ({processor}): the {rows:,} test
rows of banking77 in the order of the file, from texts to labels, with the MiniLM of "Accuracy".
Rows per second are the median of {repeats} rounds in which all take turns, ratios the median of
each round's.

{table}
The pipeline is `text-classification` in batches of {batch}. Its model is a
BertForSequenceClassification with the same encoder; the head is another one, without training, so
it stands here for its speed alone. Of the tokens that it computes {theirs:.0%} are padding; of
nlpkit's, which sorts texts by length, {ours:.0%}. The file has label after label, and so texts of
like length together: shuffled, {shuffled:.0%} of the pipeline's would be padding, and all ratios
higher. `precision: auto` took {auto}.
"""


def main() -> None:
    """Runs all in turn and writes the section."""
    parser = argparse.ArgumentParser(prog="benchmarks.inference", description=__doc__)
    parser.add_argument("--run", type=Path, help="A run on banking77; else one is trained.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=3080)
    options = parser.parse_args()
    torch.set_num_threads(threads_per_rank(1))
    texts, labels = rows(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or nlpkit.train(next(iter(RUNS.values())), out=f"{folder}/run").path
        models, sizes = loaded(run, Path(folder))
        said = {
            name: [each.label for each in model.predict(texts)] for name, model in models.items()
        }
        peer = pipeline(models[EXACT])
        arms = {PEER: peer, **{name: model.predict for name, model in models.items()}}
        speeds = measured(arms, texts, options.repeats)
    lines = [[PEER, *speed(speeds, PEER), "", "", ""]]
    for name in models:
        accuracy, same = equal(said[name], labels), equal(said[name], said[EXACT])
        about = [f"{accuracy:.4f}", f"{same:.2%}", f"{sizes[name] / 1e6:.1f}"]
        lines.append([name, *speed(speeds, name), *about])
    lengths = [len(each.ids) for each in models[EXACT].tokenizer.encode_batch(texts)]
    precision = models[AUTO].engine.precision
    put(
        "Speed of prediction",
        TEXT.format(
            torch=torch.__version__.split("+")[0],
            onnx=version("onnxruntime"),
            transformers=transformers.__version__,
            python=platform.python_version(),
            threads=threads_per_rank(1),
            processor=processor(),
            rows=len(texts),
            repeats=options.repeats,
            table=table(TITLES, lines),
            batch=BATCH,
            theirs=padding(lengths, BATCH),
            ours=padding(sorted(lengths), 64),
            shuffled=padding(random.Random(0).sample(lengths, len(lengths)), BATCH),
            auto=f"{precision.name}, {precision.reason}",
        ),
    )


def rows(count: int) -> tuple[list[str], list[str]]:
    """Texts and labels of the first test rows, in the order of the file."""
    with (DATA / "test.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))[:count]
    return [row["text"] for row in found], [row["category"] for row in found]


def loaded(run: Path, folder: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """What predicts, by name, and how many bytes its model has."""
    onnx = nlpkit.export(run, "onnx", out=folder / "onnx").path
    int8 = nlpkit.export(run, "onnx", out=folder / "int8", quantize="int8").path
    models: dict[str, Any] = {
        EXACT: nlpkit.load(run, device="cpu"),
        AUTO: nlpkit.load(run, device="cpu", precision="auto"),
        "ONNX, fp32": nlpkit.load(onnx),
        "ONNX, int8": nlpkit.load(int8),
    }
    sizes = {}
    for name, model in models.items():
        files = model.bundle.description["files"]
        sizes[name] = sum(files[file]["size"] for file in MODELS & files.keys())
    return models, sizes


def pipeline(model: Any) -> Callable[[list[str]], Any]:
    """transformers' pipeline on the encoder of a run's model."""
    encoder, labels = model.engine.model.bert, model.bundle.schema["labels"]
    names = {"id2label": dict(enumerate(labels)), "label2id": None}
    config = transformers.BertConfig(**{**encoder.config.to_dict(), **names})
    peer = transformers.BertForSequenceClassification(config).eval()
    peer.bert.load_state_dict(encoder.state_dict(), strict=False)  # all but the pooler
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
    found: Callable[[list[str]], Any] = transformers.pipeline(
        "text-classification", model=peer, tokenizer=tokenizer, batch_size=BATCH, device="cpu"
    )
    return found


def measured(
    arms: dict[str, Callable[[list[str]], Any]], texts: list[str], repeats: int
) -> dict[str, list[float]]:
    """Rows per second of each, round by round, after one round that does not count."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(-1, repeats):
        for name in list(arms)[:: -1 if repeat % 2 else 1]:
            started = time.perf_counter()
            arms[name](texts)
            found[name].append(len(texts) / (time.perf_counter() - started))
            print(f"round {repeat + 1}, {name}: {found[name][-1]:.0f} rows/s", file=sys.stderr)
    return {name: each[1:] for name, each in found.items()}


def speed(speeds: dict[str, list[float]], name: str) -> list[str]:
    """Rows per second; the ratio to the pipeline, and its lowest and highest."""
    ratios = [own / peer for own, peer in zip(speeds[name], speeds[PEER], strict=True)]
    median = f"{statistics.median(speeds[name]):.0f}"
    if name == PEER:
        return [median, "1", ""]
    return [median, f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} – {max(ratios):.2f}"]


def equal(some: Sequence[str], others: Sequence[str]) -> float:
    """The share of labels that are the same."""
    return sum(a == b for a, b in zip(some, others, strict=True)) / len(some)


def padding(lengths: Sequence[int], size: int) -> float:
    """The share of tokens that are padding, in batches of `size` in this order."""
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return 1 - sum(lengths) / sum(max(batch) * len(batch) for batch in batches)


if __name__ == "__main__":
    main()
