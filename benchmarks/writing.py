"""What a small writer of text learns, how fast it writes, and whether each way writes the same.

`make bench-writing` needs tinyshakespeare (public domain, as gathered in karpathy/char-rnn) as
input.txt in the folder that NLPKIT_TEST_DATA names. `--only` takes parts; with
`--only best-3 --set train.learning_rate=2e-3` another setting is tried, and the best one shown.
"""

from __future__ import annotations

import math
import shutil
import zlib
from pathlib import Path
from typing import Any

import torch

import nlpkit
from benchmarks import equality, rates
from benchmarks.page import table
from benchmarks.parts import Found, Part, Work, machines, main
from benchmarks.plain import Setting, writer
from benchmarks.sets import FOLDER
from benchmarks.turns import OBSERVED, curves, taking_turns

TEXT = FOLDER / "tinyshakespeare" / "input.txt"
PIECES = 4
MINUTES = (3, 15)
STEPS = 2000
RIVAL = "plain loop"
CONFIG: dict[str, Any] = {
    "name": "shakespeare",
    "device": "cpu",
    "precision": "fp32",
    "task": "clm",
    "tokenizer": {"name": "char", "whitespace": "keep", "max_length": 64},
    "model": {"name": "transformer", "layers": 4, "hidden": 128, "heads": 4, "dropout": 0.0},
    "train": {
        "epochs": 1_000_000,
        "batch_size": 12,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "betas": [0.9, 0.99],
        "schedule": "cosine",
    },
    "observers": [],
}
BEST: dict[str, dict[str, str]] = {
    "char": {
        "tokenizer.max_length": "128",
        "train.batch_size": "8",
        "train.learning_rate": "3e-3",
    },
    "bpe": {
        "tokenizer.name": "bpe",
        "tokenizer.vocab_size": "1000",
        "train.batch_size": "8",
        "train.learning_rate": "3e-3",
    },
}
CALIBRATION = 200
PROMPT = "ROMEO:\n"
DUEL = """
Measured by `make bench-writing` with {machine}. The first 90 % of tinyshakespeare are trained on,
as characters with case and line breaks; nats are a character's, the mean over all of the last 10 %
in rows of 64 without overlap. All have {layers} layers of {hidden}, {heads} heads, a context of
{context}, {batch} rows a step, AdamW at 1e-3 with betas of 0.9 and 0.99 and decay 0.1, {warmup}
steps of warm-up and a cosine, no dropout: nanoGPT's setting for a CPU, but that nlpkit's rate ends
at 0 and not at 1e-4. Both train in one process, in turn after each quarter; seconds are those of
training steps alone.

{table}
"""
BESTS = """
### In a few minutes

Measured with {machine}: nlpkit alone, as above but for what the table says, by the minutes that its
training steps take; evaluated once, after the last step.

{table}
What the last of them writes after {prompt!r}, drawn at a temperature of 0.8:

```text
{sample}
```
"""


def halves(work: Work) -> tuple[Path, Path]:
    """The two parts of the text as files."""
    whole = TEXT.read_bytes().decode("ascii")  # so that a character is a byte
    whole = whole[: 20_000 if work.smoke else None]
    border = len(whole) * 9 // 10
    paths = work.path / "train.txt", work.path / "held-out.txt"
    work.path.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, (whole[:border], whole[border:]), strict=True):
        path.write_bytes(text.encode())
    return paths


def run_of(
    work: Work, name: str, *overrides: str, steps: int, pieces: int = 1, **more: Any
) -> nlpkit.Run:
    """A run of so many steps that is evaluated after each piece."""
    train, held_out = map(str, halves(work))
    data = {"train": train, "validation": held_out, "document": "file"}
    often = {"eval": {"every": steps // pieces}, "checkpoint": {"every": steps}}
    config = {**CONFIG, "data": data, **often, **more}
    out = work.path / "runs" / name
    shutil.rmtree(out, ignore_errors=True)
    chosen = [f"train.max_steps={steps}", *overrides]
    return nlpkit.train(nlpkit.load_config(config, chosen), out=out)


def nats_of(run: nlpkit.Run) -> list[float]:
    """Nats a character after each evaluation, the end of the text left out."""
    lines = [line for line in run.history if line["split"] == "validation"]
    return [math.log(2) * line["bits_per_byte"] for line in lines]


def parameters(run: nlpkit.Run) -> int:
    """How many the model has."""
    model: Any = nlpkit.load(run, device="cpu")
    return sum(each.numel() for each in model.engine.model.parameters())


def duels(work: Work) -> None:
    """nanoGPT's steps first; they say how many steps take some minutes."""
    first = work.kept("duel-0", lambda: duel(work, 16 if work.smoke else STEPS))
    ours = first["arms"]["nlpkit"]
    step = sum(each["seconds"] for each in ours) / first["steps"]
    for minutes in () if work.smoke else MINUTES:
        steps = PIECES * round(60 * minutes / step / PIECES)
        work.kept(f"duel-{minutes:02}", lambda steps=steps: duel(work, steps))


def duel(work: Work, steps: int) -> Found:
    """All arms in turn, each to its end."""
    train, held_out = (path.read_text("ascii") for path in halves(work))
    known = {each: id for id, each in enumerate(sorted(set(train + held_out)))}
    ids = [torch.tensor([known[each] for each in text]) for text in (train, held_out)]
    setting = {"vocabulary": len(known), "steps": steps, "warmup": warmup(steps)}
    rivals = {RIVAL: writer(Setting(**setting), *ids, PIECES)}
    rate = f"train.warmup_ratio={warmup(steps) / steps}"
    run, arms = taking_turns(
        rivals, lambda: run_of(work, "duel", rate, steps=steps, pieces=PIECES, **OBSERVED)
    )
    for piece, nats in zip(arms["nlpkit"], nats_of(run), strict=True):
        piece["nats"] = nats
    return {"steps": steps, "parameters": parameters(run), "arms": arms}


def warmup(steps: int) -> int:
    """nanoGPT's, or fewer of a few steps."""
    return min(100, steps // 8)


def duel_text(work: Work) -> str:
    """The curves of all arms."""
    found = work.found("duel-*")
    if not found:
        return ""
    titles = ["steps", *(each for name in ("nlpkit", RIVAL) for each in (f"{name}, s", "nats"))]
    sizes = Setting(vocabulary=1, steps=1)
    shown = {name: getattr(sizes, name) for name in ("layers", "hidden", "heads", "context")}
    return DUEL.format(
        machine=machines(found),
        table=table(titles, curves(found.values())),
        batch=sizes.batch,
        warmup=sizes.warmup,
        **shown,
    )


def best(work: Work, minutes: int, kind: str = "char") -> Found:
    """The best setting for some minutes, or what `--set` makes of it: each has its own file."""
    options = {**BEST[kind], **dict(each.split("=", 1) for each in work.overrides)}
    overrides = [f"{name}={value}" for name, value in options.items()]
    name = f"best-{minutes:02}-{kind}-{zlib.crc32(' '.join(overrides).encode()):08x}"
    return work.kept(name, lambda: timed(work, name, minutes, kind, overrides))


def timed(work: Work, name: str, minutes: int, kind: str, overrides: list[str]) -> Found:
    """A run of as many steps as take the minutes, evaluated once."""
    steps = 4 if work.smoke else CALIBRATION
    if not work.smoke:
        tried = run_of(work, name, *overrides, steps=steps).result
        steps = round(60 * minutes / tried["training_seconds"] * steps)
    run = run_of(work, name, *overrides, steps=steps)
    model = nlpkit.load(run, device="cpu")
    prompt = len(model.tokenizer.encode(PROMPT, add_special_tokens=False).ids) + 1
    room = model.bundle.vocabulary.max_length - prompt
    drawn = {"method": "sample", "temperature": 0.8, "max_tokens": room}
    return {
        "run": name,
        "minutes": minutes,
        "kind": kind,
        "overrides": overrides,
        "steps": steps,
        "seconds": run.result["training_seconds"],
        "tokens_per_second": run.result["tokens_per_second"],
        "parameters": parameters(run),
        "nats": nats_of(run)[-1],
        "bits_per_byte": run.metrics["validation"]["bits_per_byte"],
        "sample": PROMPT + model.predict([PROMPT], generate=drawn)[0].continuation,
    }


def winners(work: Work) -> list[Found]:
    """The best of the settings that were tried, by minutes and tokens."""
    found = [*work.found("best-*").values()]
    order = sorted(found, key=lambda each: (each["kind"], each["minutes"], -each["nats"]))
    return [*{(each["kind"], each["minutes"]): each for each in order}.values()]


def best_text(work: Work) -> str:
    """A line for each winner, and a sample of the last of characters."""
    found = winners(work)
    if not found:
        return ""
    rows = [
        [
            f"{each['seconds'] / 60:.1f}",
            f"`{each['kind']}`",
            ", ".join(f"`{override}`" for override in each["overrides"]),
            f"{each['parameters'] / 1e6:.2f}",
            f"{each['steps']:,}",
            f"{each['nats']:.3f}",
            f"{each['bits_per_byte']:.3f}",
        ]
        for each in found
    ]
    titles = ["minutes", "tokens", "beside the config above", "M parameters", "steps"]
    titles += ["nats a character", "bits per byte"]
    last = [each for each in found if each["kind"] == "char"] or found
    return BESTS.format(
        machine=machines({each["run"]: each for each in found}),
        table=table(titles, rows),
        prompt=PROMPT,
        sample=last[-1]["sample"],
    )


def written(work: Work) -> tuple[nlpkit.Run, list[str], int]:
    """The best run of the longest (trained where there is none), prompts of held-out text, and the
    room behind these."""
    if not work.found("best-*-char-*"):
        best(work, MINUTES[0])
    last = [each for each in winners(work) if each["kind"] == "char"][-1]
    run = nlpkit.Run(work.path / "runs" / last["run"])
    room = nlpkit.load(run, device="cpu").bundle.vocabulary.max_length - equality.LONGEST - 1
    texts = equality.prompts(halves(work)[1].read_text("ascii"), equality.TEXTS)
    return run, texts, min(64, room)


PARTS = {
    "duel": Part(duels, duel_text),
    "best-3": Part(lambda work: best(work, 3)),
    "best-15": Part(lambda work: best(work, 15)),
    "bpe": Part(lambda work: best(work, 3, "bpe"), best_text),
    "rates": Part(
        lambda work: rates.measure(work, rates.WRITER), lambda work: rates.text(work, rates.WRITER)
    ),
    "equality": Part(lambda work: equality.measure(work, lambda: written(work)), equality.text),
}


if __name__ == "__main__":
    main("writing", "Writing", PARTS)
