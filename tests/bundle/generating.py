"""A task that generates: a plugin of one file, whose model keeps keys and values of what it saw."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nlpkit

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = '''
import numpy as np
import torch
from torch import nn
from torch.nn import functional

import nlpkit
from nlpkit.contracts import Batch, Codec, Graph, GraphSpec, HeadSpec, Part, Prediction, Task
from nlpkit.engine.generate import Steps

WIDTH = 8


class Next(Task):
    columns = {"text": ("text",)}

    def __init__(self, options):
        pass

    def texts(self, row, *, targets):
        return {"text": row.values["text"]}

    def fit(self, rows):
        return {}

    def codec(self, schema, vocabulary):
        return NextCodec(schema, vocabulary)


class NextCodec(Codec):
    """Texts end at the right, so that what is generated follows them."""

    parts = {"text": Part(special=False)}

    def __init__(self, schema, vocabulary):
        super().__init__(schema, vocabulary)
        self.head = HeadSpec(level="token", size=vocabulary.size)

    def encode(self, row, encodings, use):
        return {"input_ids": np.array(encodings["text"].ids, np.int64)}

    def collate(self, examples, seeds):
        ids = [example["input_ids"] for example in examples]
        mask = _left([np.ones_like(each) for each in ids])
        label = _left([np.append(each[1:], -100) for each in ids], -100)
        return Batch(
            inputs={"input_ids": _left(ids), "attention_mask": mask},
            targets={"label": label},
            count=float((label >= 0).sum()),
        )

    def predict(self, engine, batch, settings):
        """The ids that follow; a row ends at the id `end`, and leaves."""
        generate = _cached if settings.get("cache", True) else _again
        rows = generate(engine, batch.inputs, settings.get("max_tokens", 4), settings.get("end", 0))
        return {"ids": np.array([row + [-1] * (max(map(len, rows)) - len(row)) for row in rows])}

    def metrics(self):
        return [Right()]

    def decode(self, outputs, batch):
        rows = outputs["ids"].astype(int).tolist()
        return [Prediction(ids=" ".join(str(id) for id in row if id >= 0)) for row in rows]


class Right:
    """The share of tokens that were the likeliest after those before them."""

    better = {"right": "higher"}

    def __init__(self):
        self.state = np.zeros(2)

    def update(self, output, batch):
        label = batch.targets["label"]
        right = (output.argmax(-1) == label)[label >= 0]
        self.state += right.sum(), right.size

    def compute(self, state):
        return {"right": state[0] / max(state[1], 1)}

    def details(self, state):
        return {}


def _left(arrays, value=0):
    longest = max(map(len, arrays))
    return np.stack([np.pad(a, (longest - len(a), 0), constant_values=value) for a in arrays])


def _cached(engine, inputs, most, end):
    steps, mask = Steps(engine), inputs["attention_mask"]
    logits = steps.start(inputs)["logits"]
    rows, open_ = [[] for _ in mask], np.arange(len(mask))
    while True:
        chosen = logits[:, -1].argmax(-1)
        for row, token in zip(open_.tolist(), chosen.tolist()):
            rows[row].append(token)
        going = np.flatnonzero(chosen != end)
        if len(rows[open_[0]]) == most or not len(going):
            return rows
        steps.reorder(going)
        open_, chosen = open_[going], chosen[going]
        mask = np.pad(mask[going], ((0, 0), (0, 1)), constant_values=1)
        logits = steps.step({"input_ids": chosen[:, None], "attention_mask": mask})["logits"]


def _again(engine, inputs, most, end):
    """Row by row, each time from the first token on."""
    rows = []
    for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"]):
        ids = ids[mask > 0]
        row = []
        while len(row) < most and (not row or row[-1] != end):
            taken = np.append(ids, row).astype(np.int64)[None]
            given = {"input_ids": taken, "attention_mask": np.ones_like(taken)}
            row.append(int(Steps(engine).start(given)["logits"][0, -1].argmax()))
        rows.append(row)
    return rows


class Loss:
    def __init__(self, options, schema):
        pass

    def total(self, logits, targets, rows):
        label = targets["label"].flatten()
        return functional.cross_entropy(logits.flatten(0, 1), label, reduction="sum")

    def output(self, logits, targets, rows):
        return logits


class Attentive(nn.Module):
    """One layer of causal attention; positions are counted by the mask."""

    def __init__(self, head, vocabulary):
        super().__init__()
        self.size = head.size
        self.embedding = nn.Embedding(vocabulary.size, WIDTH)
        self.position = nn.Embedding(vocabulary.max_length, WIDTH)
        self.parts = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, head.size)

    def forward(self, input_ids, attention_mask):
        nothing = self.out.weight.new_zeros(len(input_ids), 0, WIDTH)
        return self.step(input_ids, attention_mask, nothing, nothing)[0]

    def step(self, input_ids, attention_mask, past_key, past_value):
        past = past_key.shape[1]
        positions = (attention_mask.cumsum(1) - 1).clamp(min=0)[:, past:]
        hidden = self.embedding(input_ids) + self.position(positions)
        query, key, value = self.parts(hidden).chunk(3, dim=-1)
        key, value = torch.cat([past_key, key], 1), torch.cat([past_value, value], 1)
        places = torch.arange(attention_mask.shape[1], device=input_ids.device)
        seen = (places <= places[past:, None]) & (attention_mask > 0)[:, None]
        scores = (query @ key.transpose(1, 2)).masked_fill(~seen, -1e9)
        return self.out(hidden + scores.softmax(-1) @ value), key, value

    def graphs(self):
        past, present = ("rows", "past", WIDTH), ("rows", "present", WIDTH)
        inputs = {"input_ids": ("rows", "tokens"), "attention_mask": ("rows", "present")}
        outputs = {"logits": ("rows", "tokens", self.size)}
        spec = GraphSpec(
            inputs={**inputs, "past_key": past, "past_value": past},
            outputs={**outputs, "present_key": present, "present_value": present},
        )
        return {"model": Graph(module=Step(self), spec=spec)}


class Step(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *inputs):
        return self.model.step(*inputs)


def build(options, head, vocabulary, *, weights):
    return Attentive(head, vocabulary)


@nlpkit.hookimpl
def nlpkit_tasks():
    yield nlpkit.TaskRecord(name="next", target="following:Next", objective="following:Loss")


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="attentive", target="following:build")
'''

TEXTS = [
    "one two three four five six seven eight",
    "three four five six",
    "two three four five six seven",
    "seven eight one two three",
    "five six seven eight one two three four",
]


def trained(folder: Path, *, plugin: str = PLUGIN, **config: Any) -> nlpkit.Run:
    """A run that has learned to count."""
    folder.mkdir()
    file, rows = folder / "following.py", folder / "rows.jsonl"
    file.write_text(plugin)
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return nlpkit.train(
        {
            "name": "following",
            "plugins": [str(file)],
            "task": {"name": "next"},
            "model": {"name": "attentive"},
            "data": {"train": str(rows), "validation": str(rows)},
            "tokenizer": {"name": "wordpiece", "max_length": 16, "vocab_size": 60},
            "train": {"epochs": 30, "batch_size": 5, "learning_rate": 0.03},
            "precision": "fp32",
            "device": "cpu",
            **config,
        },
        out=folder / "run",
    )
