"""`nlpkit demo`: trains, evaluates and predicts on the bundled sample; needs no network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlpkit.bundle.load import load
from nlpkit.commands.train import report, shown
from nlpkit.run.train import train

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal

CONFIG = {
    "name": "demo",
    "task": {"name": "sequence", "label_smoothing": 0.1},
    "data": "sample",
    "tokenizer": {"name": "wordpiece", "vocab_size": 2000, "max_length": 64},
    "model": {"name": "transformer", "layers": 2, "hidden": 128, "heads": 4, "dropout": 0.2},
    "train": {"epochs": 10, "learning_rate": 2e-3},
}
TEXTS = (
    "The lamp arrived with a crack in the glass",
    "How do I change the password of my account?",
    "Where is my refund for the shoes I sent back?",
    "The voucher is refused at the checkout",
)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="The run folder [runs/demo].")
@click.pass_obj
def command(terminal: Terminal, out: Path | None) -> None:
    """Train a small Transformer on the bundled sample, evaluate it, and predict four texts."""
    terminal.note("Customer-service requests, ten intents; a Transformer trained from scratch.")
    exports = ["onnx"] if importlib.util.find_spec("onnxscript") else []  # its extra is installed
    run = train({**CONFIG, "export": exports}, out=out, terminal=terminal)
    report(run, terminal)
    predictions = load(run.path).predict(TEXTS)
    rows = [[text, each.label, each.score] for text, each in zip(TEXTS, predictions, strict=True)]
    terminal.say()
    terminal.table(("text", "label", "score"), rows)
    folder = shown(run.path)
    terminal.say("\nNext:")
    terminal.say(f'  nlpkit predict {folder} "where is my order?"')
    terminal.say("  nlpkit init my-project     a starter project for your own data")
    terminal.say("  nlpkit plugins             what else there is to choose from")
