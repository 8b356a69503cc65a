"""A run of the task `token` on four sentences, which it has learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROWS = [
    {"tokens": ["EU", "rejects", "German", "call"], "tags": ["B-ORG", "O", "B-MISC", "O"]},
    {"tokens": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]},
    {"tokens": ["Rome", "calls", "Peter"], "tags": ["B-LOC", "O", "B-PER"]},
    {"tokens": ["call", "Rome"], "tags": ["O", "B-LOC"]},
]
ENTITIES = [
    [
        {"text": "EU", "label": "ORG", "start": 0, "end": 1},
        {"text": "German", "label": "MISC", "start": 2, "end": 3},
    ],
    [{"text": "Peter Blackburn", "label": "PER", "start": 0, "end": 2}],
    [
        {"text": "Rome", "label": "LOC", "start": 0, "end": 1},
        {"text": "Peter", "label": "PER", "start": 2, "end": 3},
    ],
    [{"text": "Rome", "label": "LOC", "start": 1, "end": 2}],
]
"""Those of the rows, without scores."""


def train(out: Path) -> Path:
    """The run."""
    config = {
        "name": "words",
        "task": {"name": "token", "text": "tokens", "label": "tags"},
        "tokenizer": {"name": "wordpiece", "max_length": 32, "vocab_size": 120},
        "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2, "dropout": 0.0},
        "train": {"epochs": 30, "batch_size": 4, "learning_rate": 0.03},
        "device": "cpu",
        "eval": {"every": 30},
        "observers": [],
    }
    return nlpkit.train(config, data={"train": ROWS, "validation": ROWS}, out=out).path


def lines(rows: Sequence[dict[str, Any]] = ROWS) -> str:
    """Rows as a `.conll` file has them."""
    sentences = [zip(row["tokens"], row["tags"], strict=True) for row in rows]
    return "\n".join("".join(f"{word}\t{tag}\n" for word, tag in each) for each in sentences)


def unscored(entity: dict[str, Any]) -> dict[str, Any]:
    """An entity without its score."""
    return {name: value for name, value in entity.items() if name != "score"}
