"""What the whole Transformer learns, and how fast it writes: `make bench-translation`.

Parts: `reverse` and `dates`, of rows that are made up; `beside`, German to English in turn with a
plain loop; `hour`, as well as it goes in an hour; `rates`; `equality`, each way of writing. What is
German and English needs multi30k (research only) in the folder that NLPKIT_TEST_DATA names.
"""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import nlpkit
from benchmarks import dates, equality, pairs, rates
from benchmarks.page import table
from benchmarks.parts import Found, Part, Work, machines, main
from benchmarks.sets import FOLDER

SPLITS = {name: FOLDER / "multi30k" / f"{name}.csv" for name in ("train", "validation", "test")}
SYMBOLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwx"
LENGTHS, LONGER = (1, 25), (26, 30)
COMMON: dict[str, Any] = {"device": "cpu", "precision": "fp32", "observers": []}
SMALL = {
    "name": "transformer",
    "layers": 2,
    "hidden": 128,
    "heads": 4,
    "dropout": 0.0,
    "positions": "sinusoidal",
}
MADE_UP: dict[str, Any] = {
    **COMMON,
    "task": {"name": "seq2seq", "bleu": None},
    "tokenizer": {"name": "char", "lowercase": False, "whitespace": "keep", "max_length": 64},
    "model": SMALL,
    "train": {
        "epochs": 10,
        "max_steps": 3000,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup_steps": 200,
    },
    "eval": {"every": "epoch", "generated_rows": 100},
}
GERMAN: dict[str, Any] = {
    **COMMON,
    "task": {
        "name": "seq2seq",
        "source": "de",
        "target": "en",
        "label_smoothing": 0.1,
        "generate": {"max_tokens": 64},
    },
    "tokenizer": {"name": "bpe", "lowercase": False, "vocab_size": 8000, "max_length": 64},
    "model": {
        "name": "transformer",
        "layers": 3,
        "hidden": 256,
        "heads": 8,
        "feed_forward": 512,
        "dropout": 0.2,
        "positions": "sinusoidal",
    },
    "train": {
        "epochs": 1000,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup_steps": 500,
    },
    "eval": {"generated_rows": 2000},
}
HOUR, CALIBRATION, QUARTERS = 60, 100, 4
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    **{
        f"beam of 4, length penalty {penalty:g}": {"method": "beam", "length_penalty": penalty}
        for penalty in (0.0, 0.6, 1.0)
    },
}
MADE_UP_TEXT = """
Measured by `make bench-translation` with {machine}: {layers} layers of {hidden} each, {heads}
heads, characters, fp32, greedy. The test rows are none of the others. Seconds are of training.

{table}

{words}
"""
HOUR_TEXT = """
### German to English in an hour

Measured with {machine}: multi30k's 29,000 pairs, cased and as they stand, {overrides}. A model of
{parameters:.1f} M parameters, {seconds:.0f} s of training; BLEU of its 1,000 test rows of 2016.

{table}

sacrebleu's signature is `{signature}`. On validation rows, greedy, BLEU was {curve}.
"""


def reverse(work: Work) -> None:
    """Symbols from the last to the first."""
    work.kept("reverse", lambda: made_up(work, "reverse", *reversals(work.smoke)))


def iso(work: Work) -> None:
    """Dates as people write them to ISO 8601."""
    counts = (200, 10) if work.smoke else (60_000, 1_000)
    work.kept("dates", lambda: made_up(work, "dates", *dates.rows(*counts)))


def reversals(smoke: bool) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows for training and test rows; of these some are longer than any other."""
    drawn, found = random.Random(13), dict[str, None]()
    counts = (200, 10, 5) if smoke else (50_000, 1_000, 500)
    for (least, most), count in zip((LENGTHS, LENGTHS, LONGER), counts, strict=True):
        end = len(found) + count
        while len(found) < end:
            found["".join(drawn.choices(SYMBOLS, k=drawn.randint(least, most)))] = None
    said = [{"source": each, "target": each[::-1]} for each in found]
    return said[: counts[0]], said[counts[0] :]


def made_up(
    work: Work, name: str, train: list[dict[str, str]], test: list[dict[str, str]]
) -> Found:
    """Which test rows come out right, by the length of the source."""
    held_out = train[:: max(10, len(train) // 500)]
    chosen = {each["source"] for each in held_out}
    rows = {
        "train": [each for each in train if each["source"] not in chosen],
        "validation": held_out,
    }
    out = work.path / "runs" / name
    shutil.rmtree(out, ignore_errors=True)
    overrides = [*work.overrides, *(["train.max_steps=4"] if work.smoke else [])]
    config = nlpkit.load_config({**MADE_UP, "name": name}, overrides)
    run = nlpkit.train(config, data=rows, out=out)
    written = nlpkit.load(run, device="cpu").predict([each["source"] for each in test])
    right = [
        [len(each["source"]), said.output == each["target"]]
        for each, said in zip(test, written, strict=True)
    ]
    wrong = [
        [each["source"], said.output]
        for each, said in zip(test, written, strict=True)
        if said.output != each["target"]
    ]
    return {
        "seconds": run.result["training_seconds"],
        "rows": len(rows["train"]),
        "right": right,
        "wrong": wrong[:20],
    }


def german(work: Work, **changed: Any) -> dict[str, Any]:
    """The config of multi30k; of a few rows in miniature."""
    files = {name: str(path) for name, path in SPLITS.items()}
    if work.smoke:
        work.path.mkdir(parents=True, exist_ok=True)
        for name, path in SPLITS.items():
            lines = path.read_text("utf-8").splitlines(keepends=True)
            files[name] = str(work.path / f"{name}.csv")
            Path(files[name]).write_text("".join(lines[:40]), "utf-8")
    return {**GERMAN, "data": files, **changed}


def hour(work: Work) -> None:
    """As many steps as take an hour, then each way of writing; `--set` tries another setting."""
    work.kept("hour", lambda: german_of_an_hour(work))


def german_of_an_hour(work: Work) -> Found:
    """BLEU of the test rows, each way."""
    import sacrebleu

    steps = 4 if work.smoke else CALIBRATION
    out = work.path / "runs" / "hour"

    def trained(steps: int) -> nlpkit.Run:
        shutil.rmtree(out, ignore_errors=True)
        often = {"every": max(1, steps // QUARTERS), "generated_rows": 2000}
        config = german(work, name="hour", eval=often)
        chosen = [f"train.max_steps={steps}", *work.overrides]
        return nlpkit.train(nlpkit.load_config(config, chosen), out=out)

    run = trained(steps)
    if not work.smoke:
        run = trained(round(60 * HOUR / run.result["training_seconds"] * steps))
    model: Any = nlpkit.load(run, device="cpu")
    sources, targets = columns(german(work)["data"]["test"])
    metric, found = sacrebleu.BLEU(), {}
    for name, generate in WAYS.items():
        said = model.predict(sources, generate=generate)
        outputs = [each.output for each in said]
        found[name] = metric.corpus_score(outputs, [targets]).score
    lines = [line for line in run.history if line["split"] == "validation"]
    return {
        "seconds": run.result["training_seconds"],
        "parameters": sum(each.numel() for each in model.engine.model.parameters()),
        "bleu": found,
        "signature": str(metric.get_signature()),
        "curve": [[line["step"], line["bleu"]] for line in lines],
        "test": run.metrics["test"],
        "overrides": list(work.overrides),
    }


def columns(path: str) -> tuple[list[str], list[str]]:
    """The two columns of a file."""
    with Path(path).open(encoding="utf-8", newline="") as opened:
        rows = [*csv.DictReader(opened)]
    return [row["de"] for row in rows], [row["en"] for row in rows]


def sources(work: Work) -> tuple[nlpkit.Run, Sequence[str], int]:
    """The run of an hour, sources of the test rows, and how many tokens are written at most."""
    hour(work)
    texts, _ = columns(german(work)["data"]["test"])
    texts = texts[:: max(1, len(texts) // equality.TEXTS)][: equality.TEXTS]
    return nlpkit.Run(work.path / "runs" / "hour"), texts, 64


def made_up_text(work: Work) -> str:
    """Exact matches by length, and of dates what is left."""
    found = {name: each for name in ("reverse", "dates") for each in work.found(name).values()}
    if not found:
        return ""
    rows = []
    for name, each in found.items():
        for least, most in ((1, 5), (6, 10), (11, 15), (16, 20), (21, 25), (26, 30), (31, 64)):
            right = [good for length, good in each["right"] if least <= length <= most]
            if right:
                rows.append([name, f"{least} – {most}", str(len(right)), f"{mean(right):.1%}"])
        usual = [good for length, good in each["right"] if name == "dates" or length <= LENGTHS[1]]
        all_of = f"{each['rows']:,} rows, {each['seconds']:.0f} s"
        rows.append([f"{name}, {all_of}", "all learned", str(len(usual)), f"{mean(usual):.1%}"])
    words = "Reversing fails beyond the longest that was learned: no place there has been seen."
    return MADE_UP_TEXT.format(
        machine=machines(found),
        **SMALL,
        table=table(["", "characters of a source", "test rows", "exact match"], rows),
        words=words if "reverse" in found else "",
    )


def hour_text(work: Work) -> str:
    """BLEU each way."""
    found = work.found("hour")
    if not found:
        return ""
    (each,) = found.values()
    options = ", ".join(f"`{one}`" for one in each["overrides"]) or "the config of the benchmark"
    return HOUR_TEXT.format(
        machine=machines(found),
        overrides=options,
        parameters=each["parameters"] / 1e6,
        seconds=each["seconds"],
        signature=each["signature"],
        curve=", ".join(f"{bleu:.1f} after step {step:,}" for step, bleu in each["curve"]),
        table=table(
            ["written", "BLEU"], [[way, f"{bleu:.2f}"] for way, bleu in each["bleu"].items()]
        ),
    )


PARTS = {
    "reverse": Part(reverse),
    "dates": Part(iso, made_up_text),
    "beside": Part(lambda work: pairs.measure(work, german(work)), pairs.text),
    "hour": Part(hour, hour_text),
    "rates": Part(
        lambda work: rates.measure(work, rates.TRANSLATOR),
        lambda work: rates.text(work, rates.TRANSLATOR),
    ),
    "equality": Part(lambda work: equality.measure(work, lambda: sources(work)), equality.text),
}


if __name__ == "__main__":
    main("translation", "Translation", PARTS)
