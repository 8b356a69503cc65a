"""The checks that plugin authors get: our own components pass them, broken ones are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nlpkit.contracts import Batch, Codec, HeadSpec, Part, Prediction, Row, Task, pad
from nlpkit.errors import PluginError
from nlpkit.nn import Head
from nlpkit.testing import check_metric, check_model, check_task
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.objective import SequenceObjective
from nlpkit_tasks.sequence.task import SequenceTask
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.model import build as build_transformer

TEXTS = ["where is my card", "refund", "please close my account today", "hello"]
LABELS = {
    "class": ["card", "refund", "close", "card"],
    "multilabel": ["card,close", "", "close", "card"],
    "regression": [1.5, -2, 0.25, 3],
}


def rows(target: str = "class", **columns) -> list[Row]:
    cells = zip(TEXTS, LABELS[target], [1, 0.5, 0, 2], strict=True)
    return [
        Row({"text": text, "other": "a b", "label": label, "weight": weight}, f"rows:{line}")
        for line, (text, label, weight) in enumerate(cells)
    ]


def options(target: str = "class", **more) -> SequenceConfig:
    return SequenceConfig(target=target, weight="weight", **more)


@pytest.mark.parametrize("text", ["text", ["text", "other"]])
@pytest.mark.parametrize("target", LABELS)
def test_the_sequence_task_keeps_its_contract(target, text):
    config = options(target, text=text)
    check_task(SequenceTask(config), rows(target), objective=lambda s: SequenceObjective(config, s))


def test_class_weights_and_smoothing_keep_the_contract():
    config = options(class_weights="balanced", label_smoothing=0.1)
    check_task(SequenceTask(config), rows(), objective=lambda s: SequenceObjective(config, s))


@pytest.mark.parametrize("target", LABELS)
def test_the_transformer_keeps_its_contract(target):
    codec, batch = check_task(SequenceTask(options(target)), rows(target))
    small = TransformerConfig(layers=1, hidden=8, heads=2, feed_forward=16)
    check_model(build_transformer, small, batch, head=codec.head, axes=codec.inputs)


def test_short_texts_have_several_windows_and_their_batch_fits_a_model():
    config = options(long_text="window")
    codec, batch = check_task(
        SequenceTask(config), rows(), objective=lambda s: SequenceObjective(config, s)
    )
    assert batch.rows.tolist() == [2, 1, 4, 1]
    small = TransformerConfig(layers=1, hidden=8, heads=2, feed_forward=16)
    check_model(build_transformer, small, batch, head=codec.head, axes=codec.inputs)


class MeanObjective(SequenceObjective):
    def total(self, logits, targets, rows):
        return super().total(logits, targets, rows) / len(logits)


def test_an_objective_that_gives_a_mean_is_refused():
    with pytest.raises(PluginError, match=r"objective MeanObjective: .* never a mean"):
        check_task(SequenceTask(options()), rows(), objective=lambda s: MeanObjective(options(), s))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_of_few_bits_is_a_sum_all_the_same_and_its_mean_none(dtype):
    class Narrow(SequenceObjective):
        def total(self, logits, targets, rows):
            losses_B = cross_entropy(logits.to(dtype), targets["label"], reduction="none")
            return losses_B.sum()

    class NarrowMean(Narrow):
        def total(self, logits, targets, rows):
            return super().total(logits, targets, rows) / len(logits)

    check_task(SequenceTask(options()), rows(), objective=lambda s: Narrow(options(), s))
    with pytest.raises(PluginError, match="never a mean"):
        check_task(SequenceTask(options()), rows(), objective=lambda s: NarrowMean(options(), s))


class Averaging:
    def __init__(self):
        self.better = {"share": "higher"}
        self.state = np.zeros(1)

    def update(self, output, batch):
        self.state[0] = output.mean()

    def compute(self, state):
        return {"share": float(state[0])}

    def details(self, state):
        return {}


def test_a_metric_that_does_not_add_up_is_refused():
    _, batch = check_task(SequenceTask(options()), rows())
    with pytest.raises(PluginError, match=r"metric Averaging: .* do not add up"):
        check_metric(Averaging, [np.ones(2), np.ones(2)], [batch, batch])


class Bag(nn.Module):
    """Sums embeddings, padding too."""

    inputs = ("input_ids",)

    def __init__(self, options, head, vocabulary, *, weights):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary.size, 4)
        self.head = Head(4, head, pooling="cls", dropout=0.0)
        if options == "unused":
            self.pooler = nn.Linear(4, 4)

    def forward(self, input_ids):
        hidden = self.embedding(input_ids)
        return self.head(hidden.sum(1, keepdim=True), torch.ones_like(input_ids))


@pytest.mark.parametrize(
    ("options_", "message"),
    [("", "padding changes the logits of row 0"), ("unused", "no gradient reaches pooler.weight")],
)
def test_broken_models_are_refused(options_, message):
    codec, batch = check_task(SequenceTask(options()), rows())
    with pytest.raises(PluginError, match=message):
        check_model(Bag, options_, batch, head=codec.head)


class Slots(Bag):
    """Adds numbers of an axis of their own to a row, or to each of its tokens; ignores padding."""

    inputs = ("input_ids", "attention_mask", "slots")

    def forward(self, input_ids, attention_mask, slots):
        hidden = self.embedding(input_ids) + slots.sum(1)[:, None, None]
        return self.head(hidden, attention_mask)


@pytest.mark.parametrize("level", ["sequence", "token"])
def test_only_the_axis_of_the_tokens_is_cut_where_padding_is_taken_away(level):
    _, batch = check_task(SequenceTask(options()), rows())
    inputs = {**batch.inputs, "slots": np.arange(80).reshape(4, 20)}
    spec = HeadSpec(size=2, level=level)
    axes = {"slots": ("rows", "slots")}
    check_model(Slots, "", replace(batch, inputs=inputs), head=spec, axes=axes)
    with pytest.raises(PluginError, match="padding changes the logits of row 0"):
        check_model(Slots, "", replace(batch, inputs=inputs), head=spec)


class Pairs(Task):
    """Has a part that prediction lacks, and names it first."""

    def __init__(self):
        self.columns = {"source": ("text",)}

    def texts(self, row, *, targets):
        texts = {"target": row.values.get("other"), "source": row.values["text"]}
        return texts if targets else {"source": texts["source"]}

    def fit(self, rows):
        return {}

    def codec(self, schema, vocabulary):
        return PairsCodec(schema, vocabulary)


class PairsCodec(Codec):
    head = HeadSpec(size=1)

    def __init__(self, schema, vocabulary):
        super().__init__(schema, vocabulary)
        self.parts = {"target": Part(max_length=2), "source": Part(max_length=9)}

    def encode(self, row, encodings, use):
        example = {"input_ids": np.array(encodings["source"].ids)}
        if use != "predict":
            example["target"] = np.array(encodings["target"].ids)
        return example

    def collate(self, examples, seeds):
        ids = [each["input_ids"] for each in examples]
        return Batch(
            inputs={"input_ids": pad(ids), "attention_mask": pad([np.ones_like(e) for e in ids])},
            targets={"ids": pad([e["target"] for e in examples])}
            if "target" in examples[0]
            else {},
            count=float(len(examples)),
        )

    def decode(self, outputs, batch):
        return [Prediction(tokens=each) for each in batch.inputs["attention_mask"].sum(1).tolist()]


def test_parts_that_prediction_lacks_may_stand_anywhere():
    _, batch = check_task(Pairs(), rows())
    assert batch.inputs["attention_mask"].sum(1).tolist() == [9, 6, 9, 5]
    assert batch.targets["ids"].shape == (4, 2)
