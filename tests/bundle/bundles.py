"""Small runs for tests: real components and real files, with weights that were never trained."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import torch

from nlpkit.bundle.format import WEIGHTS, seal, write_description
from nlpkit.cli.render import Terminal
from nlpkit.config.load import dump_config, load_config
from nlpkit.config.resolve import build, resolve
from nlpkit.data.prepare import prepare
from nlpkit.engine.weights import save_weights
from nlpkit.nn import graphs_of
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEXTS = (
    "my card has not arrived yet",
    "where is my money",
    "i lost my card on the train and want a new one",
    "the transfer failed again",
    "card",
    "how do i change my pin before i travel to another country next week",
    "why was i charged twice",
    "money",
)
CLASSES = ("arrival", "balance", "lost", "balance", "arrival", "lost", "balance", "arrival")
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, CLASSES, strict=True)]
LABELS = [{**row, "label": [row["label"], "any"]} for row in ROWS]
NUMBERS = [{**row, "label": float(len(row["text"]))} for row in ROWS]
PAIRS = [
    {"first": text, "second": TEXTS[-1 - at], "label": CLASSES[at]} for at, text in enumerate(TEXTS)
]

PLUGIN = """
import nlpkit
from torch import nn


class Bag(nn.Module):
    def __init__(self, head, vocabulary):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary.size, head.size)

    def forward(self, input_ids):
        return self.embedding(input_ids)


def build(options, head, vocabulary, *, weights):
    return Bag(head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="{name}", target="{name}:build")
"""


def make_run(
    folder: Path,
    rows: Sequence[dict[str, Any]] = ROWS,
    *,
    model: str | dict[str, Any] | None = None,
    tokenizer: dict[str, Any] | None = None,
    plugins: Sequence[str] = (),
    sealed: bool = True,
    **task: Any,
) -> Path:
    """A run folder with a bundle, for the task `sequence` on `rows`, or another `name`."""
    folder.mkdir(parents=True)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2, "feed_forward": 32}
    loaded = load_config(
        {
            "name": folder.name,
            "plugins": list(plugins),
            "task": {"name": "sequence", **task},
            "data": {"train": str(data), "validation": str(data)},
            "tokenizer": tokenizer or {"name": "wordpiece", "max_length": 16, "vocab_size": 120},
            "model": model or small,
            "precision": "fp32",
        }
    )
    host = Host.discover()
    config = resolve(loaded, host)
    prepared = prepare(config, host, Terminal())
    codec = prepared.codec(config, host)
    torch.manual_seed(13)
    network = build(config.model, "model", host, codec.head, codec.vocabulary, weights=True)
    for parameter in network.parameters():  # else all texts look alike
        torch.nn.init.normal_(parameter, std=1 / math.sqrt(16))
    write_description(
        folder / "bundle",
        config=config,
        host=host,
        prepared=prepared,
        codec=codec,
        graphs=graphs_of(network, codec),
    )
    (folder / "config.yaml").write_text(dump_config(config))
    save_weights(folder / "bundle" / WEIGHTS, network)
    if sealed:
        seal(folder / "bundle")
    return folder
