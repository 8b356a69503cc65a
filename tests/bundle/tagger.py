"""A task of a tag for each word, small and whole, as a plugin of one file; and runs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import nlpkit
from nlpkit.contracts import Batch, Codec, HeadSpec, Prediction, Task, pad
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    {"tokens": ["EU", "rejects", "German", "call"], "tags": ["ORG", "O", "MISC", "O"]},
    {"tokens": ["Peter", "Blackburn"], "tags": ["PER", "PER"]},
    {"tokens": ["Rome", "calls", "Peter"], "tags": ["LOC", "O", "PER"]},
    {"tokens": ["call", "Rome"], "tags": ["O", "LOC"]},
]


class Tagger(Task):
    """`tokens` are words, or a text; `tags` those of the words."""

    reads = ("tokens", "tags")
    words = True

    def __init__(self, options):
        self.columns = {"text": ("tokens",)}

    def texts(self, row, *, targets):
        """The words, or the text."""
        value = row.values.get("tokens")
        words = value if isinstance(value, list) else [value]
        if not words or not all(isinstance(word, str) and word.strip() for word in words):
            raise DataError(row.address, column="tokens", problem="the text is empty")
        return {"text": value}

    def fit(self, rows):
        """The tags."""
        return {"labels": sorted({tag for row in rows for tag in row.values["tags"]})}

    def codec(self, schema, vocabulary):
        """The other half."""
        return TaggerCodec(schema, vocabulary)


class TaggerCodec(Codec):
    """A word's tag is that of its first token."""

    def __init__(self, schema, vocabulary):
        super().__init__(schema, vocabulary)
        self.head = HeadSpec(size=len(schema["labels"]), level="token")

    def encode(self, row, encodings, use):
        """`input_ids`, `places` of first tokens, `text` with all words, and `tags`."""
        encoding, value = encodings["text"], row.values["tokens"]
        ids = np.array([-1 if each is None else each for each in encoding.word_ids])
        numbers, places = np.unique(ids[ids >= 0], return_index=True)
        if isinstance(value, list):
            words = [value[number] for number in numbers]
        else:
            words = [value[slice(*encoding.word_to_chars(number))] for number in numbers]
        example = {
            "input_ids": np.array(encoding.ids, np.int32),
            "places": (places + np.argmax(ids >= 0)).astype(np.int32),
            "text": np.frombuffer("\n".join(words).encode(), np.uint8),
        }
        if use == "predict":
            return example
        tags = [self.schema["labels"].index(row.values["tags"][number]) for number in numbers]
        return {**example, "tags": np.array(tags, np.int64)}

    def collate(self, examples, seeds):
        """Arrays [rows, tokens]; a target of -100 does not count."""
        ids = [each["input_ids"] for each in examples]
        inputs = {
            "input_ids": pad(ids).astype(np.int64),
            "attention_mask": pad([np.ones(len(row), np.int64) for row in ids]),
        }
        about = {name: [each[name] for each in examples] for name in ("places", "text")}
        targets = {}
        if "tags" in examples[0]:
            targets["tags"] = np.full(inputs["input_ids"].shape, -100)
            for row, each in zip(targets["tags"], examples, strict=True):
                row[each["places"]] = each["tags"]
        return Batch(inputs=inputs, targets=targets, count=float(len(examples)), about=about)

    def decode(self, outputs, batch):
        """The words that have a tag."""
        return self._entities(outputs["logits"].argmax(-1), batch)

    def gold(self, batch):
        """The words that should have one."""
        return self._entities(batch.targets["tags"], batch)

    def _entities(self, tags_RT, batch):
        found = []
        for row, places, text in zip(tags_RT, *batch.about.values(), strict=True):
            tags = [self.schema["labels"][tag] for tag in row[places]]
            named = zip(bytes(text).decode().split("\n"), tags, strict=True)
            entities = [{"text": word, "label": tag} for word, tag in named if tag != "O"]
            found.append(Prediction(entities=entities))
        return found


class Objective:
    """Cross-entropy."""

    def __init__(self, options, schema):
        """It has no options."""

    def total(self, logits, targets, rows):
        """The summed loss."""
        from torch.nn import functional

        flat = logits.flatten(0, 1), targets["tags"].flatten()
        return functional.cross_entropy(*flat, reduction="sum")

    def output(self, logits, targets, rows):
        """The logits."""
        return logits


@nlpkit.hookimpl
def nlpkit_tasks():
    """`tagger`."""
    yield nlpkit.TaskRecord(name="tagger", target="tagger:Tagger", objective="tagger:Objective")


def train(out: Path, rows: Any = ROWS) -> Path:
    """A run of it that has learned the rows."""
    config = {
        "name": "tagger",
        "plugins": [__file__],
        "task": "tagger",
        "tokenizer": {"name": "wordpiece", "max_length": 32, "vocab_size": 120},
        "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2, "dropout": 0.0},
        "train": {"epochs": 20, "batch_size": 4, "learning_rate": 0.03},
        "device": "cpu",
        "eval": {"every": 20},
        "observers": [],
    }
    return nlpkit.train(config, data={"train": rows, "validation": rows}, out=out).path


def lines(rows: Any = ROWS) -> str:
    """Rows as a `.conll` file has them."""
    sentences = [zip(row["tokens"], row["tags"], strict=True) for row in rows]
    return "\n".join("".join(f"{word}\t{tag}\n" for word, tag in each) for each in sentences)
