"""The checks that plugin authors get: our own components pass them, broken ones are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nlpkit.contracts import Row
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
    task = SequenceTask(options(target))
    schema, batch = check_task(task, rows(target))
    small = TransformerConfig(layers=1, hidden=8, heads=2, feed_forward=16)
    check_model(build_transformer, small, batch, head=task.head(schema))


class MeanObjective(SequenceObjective):
    def total(self, logits, targets):
        return super().total(logits, targets) / len(logits)


def test_an_objective_that_gives_a_mean_is_refused():
    with pytest.raises(PluginError, match=r"objective MeanObjective: .* never a mean"):
        check_task(SequenceTask(options()), rows(), objective=lambda s: MeanObjective(options(), s))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_of_few_bits_is_a_sum_all_the_same_and_its_mean_none(dtype):
    class Narrow(SequenceObjective):
        def total(self, logits, targets):
            losses_B = cross_entropy(logits.to(dtype), targets["label"], reduction="none")
            return losses_B.sum()

    class NarrowMean(Narrow):
        def total(self, logits, targets):
            return super().total(logits, targets) / len(logits)

    check_task(SequenceTask(options()), rows(), objective=lambda s: Narrow(options(), s))
    with pytest.raises(PluginError, match="never a mean"):
        check_task(SequenceTask(options()), rows(), objective=lambda s: NarrowMean(options(), s))


class CountingTask(SequenceTask):
    def collate(self, examples, seeds):
        batch = super().collate(examples, seeds)
        batch.inputs["token_type_ids"][:] = len(examples)
        return batch


def test_a_collate_that_mixes_samples_is_refused():
    with pytest.raises(PluginError, match="token_type_ids of row 0 depends on its neighbours"):
        check_task(CountingTask(options()), rows())


def test_a_task_with_windows_keeps_its_contract_and_its_batch_fits_a_model():
    config = options(long_text="window")
    task = SequenceTask(config)
    schema, batch = check_task(task, rows(), objective=lambda s: SequenceObjective(config, s))
    assert batch.inputs["windows"].tolist() == [1, 1, 2, 1]
    small = TransformerConfig(layers=1, hidden=8, heads=2, feed_forward=16)
    check_model(build_transformer, small, batch, head=task.head(schema))


class OneWindow(SequenceTask):
    """Has the windows, but says that each sample is one."""

    def collate(self, examples, seeds):
        batch = super().collate(examples, seeds)
        batch.inputs["windows"][:] = 1
        return batch


class LongWindows(SequenceTask):
    """Says that the first window has all tokens."""

    def encode(self, row, encoding, schema, *, targets=True):
        example = super().encode(row, encoding, schema, targets=targets)
        return {**example, "windows": example["windows"] + np.int32(len(encoding.overflowing))}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (OneWindow, "`windows` of a batch must be how many rows of its inputs each sample has"),
        (LongWindows, "`windows` of an example must be the lengths of its windows"),
    ],
)
def test_windows_that_are_not_those_of_the_samples_are_refused(task, message):
    with pytest.raises(PluginError, match=message):
        check_task(task(options(long_text="window")), rows())


class FirstLetters(SequenceTask):
    def encode(self, row, encoding, schema, *, targets=True):
        starts = [start for start, _ in encoding.offsets]
        return super().encode(row, encoding, schema, targets=targets) | {
            "start": np.int64(starts[-1])
        }


@pytest.mark.parametrize("ids_only", [True, False])
def test_a_task_that_says_ids_only_and_looks_at_more_is_refused(ids_only):
    task = FirstLetters(options())
    task.ids_only = ids_only
    if not ids_only:
        check_task(task, rows())
        return
    with pytest.raises(PluginError, match="says ids_only, but its examples depend on more"):
        check_task(task, rows())


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
    task = SequenceTask(options())
    schema, batch = check_task(task, rows())
    with pytest.raises(PluginError, match=message):
        check_model(Bag, options_, batch, head=task.head(schema))
