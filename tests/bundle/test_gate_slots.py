"""Law 6 with an axis beside rows and tokens, of an input that names places among the tokens."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

import nlpkit
from nlpkit.bundle.grid import Filling, grid
from nlpkit.contracts import GraphSpec, Row
from tests.bundle.bundles import ROWS, make_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLUGIN = """
import numpy as np
import torch
from torch import nn

import nlpkit
from nlpkit.contracts import pad
from dataclasses import replace
from nlpkit_tasks.sequence.codec import SequenceCodec
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask


class Options(nlpkit.ComponentConfig):
    frozen: bool = False


class Spots(SequenceTask):
    def codec(self, schema, vocabulary):
        return SpotsCodec(self, schema, vocabulary)


class SpotsCodec(SequenceCodec):
    def __init__(self, task, schema, vocabulary):
        super().__init__(task, schema, vocabulary)
        self.inputs = {**self.inputs, "places": ("rows", "slots")}

    def collate(self, examples, seeds):
        batch = super().collate(examples, seeds)
        places = pad([np.arange(len(each["input_ids"]))[::3] for each in examples])
        return replace(batch, inputs={**batch.inputs, "places": places})


class Model(nn.Module):
    def __init__(self, options, head, vocabulary):
        super().__init__()
        self.frozen = options.frozen
        self.embedding = nn.Embedding(vocabulary.size, 8)
        self.linear = nn.Linear(8, head.size)

    def forward(self, input_ids, attention_mask, places):
        hidden = self.embedding(input_ids) * attention_mask[:, :, None]
        chosen = hidden.gather(1, places[:, :, None].expand(-1, -1, 8))
        if self.frozen:  # a trace has as many additions as its sample had slots
            return self.linear(sum(chosen[:, slot] for slot in range(places.shape[1])))
        return self.linear(chosen.sum(1))


def build(options, head, vocabulary, *, weights):
    return Model(options, head, vocabulary)


def task(options):
    return Spots(options)


@nlpkit.hookimpl
def nlpkit_tasks():
    yield nlpkit.TaskRecord(
        name="spots",
        target="spots:task",
        objective="nlpkit_tasks.sequence.objective:SequenceObjective",
        config="nlpkit_tasks.sequence.config:SequenceConfig",
    )


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="spots", target="spots:build", config="spots:Options")
"""

GIVING = """        return replace(batch, inputs={**batch.inputs, "places": places})
"""
LEAVING = PLUGIN.replace(
    GIVING,
    f"""        if not batch.targets:
            return batch
{GIVING}
    def predict(self, engine, batch, settings):
        places = np.zeros((len(batch.inputs["input_ids"]), 1), np.int64)
        return engine.run({{**batch.inputs, "places": places}})
""",
)


@pytest.fixture
def spots(tmp_path: Path) -> Callable[..., Path]:
    """A run whose model takes slots; a frozen one can be traced for one number of them only."""
    plugin = tmp_path / "spots.py"

    def run(frozen: bool, text: str = PLUGIN) -> Path:
        plugin.write_text(text)
        model = {"name": "spots", "frozen": frozen}
        return make_run(tmp_path / "cards", plugins=[str(plugin)], model=model, name="spots")

    return run


@pytest.mark.usefixtures("_asked_here")
@pytest.mark.parametrize("format", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_third_axis_is_asked_with_one_and_with_three(
    spots: Callable[..., Path], format: str
) -> None:
    run = spots(False)
    parity = nlpkit.export(run, format, trust_plugins=True).parity
    shapes = {(each["batch"], each["length"], each["slots"]) for each in parity["shapes"]}
    assert set(product((1, 2, 3, 17), (1, 7, 16), (1, 3))) < shapes
    assert parity["agreement"] == 1.0
    labels = [
        [each.label for each in nlpkit.load(path, trust_plugins=True).predict(["money", "my card"])]
        for path in (run, run / "bundle" / format)
    ]
    assert labels[0] == labels[1]


@pytest.mark.usefixtures("_asked_here")
def test_a_frozen_third_axis_is_refused(spots: Callable[..., Path]) -> None:
    with pytest.raises(nlpkit.RunError, match="batch 1 × length 1 × slots 1: "):
        nlpkit.export(spots(True), "torchscript", trust_plugins=True)


def test_an_input_may_be_left_to_predict_and_is_asked_as_an_evaluation_has_it(
    spots: Callable[..., Path],
) -> None:
    run = spots(False, LEAVING)
    model = nlpkit.load(run, trust_plugins=True)
    assert "places" not in model.batch(["money"]).inputs
    filling = Filling(model, [Row(row, "") for row in ROWS])
    sizes = {"rows": 3, "tokens": 7, "slots": 3}
    places = filling.arrays(model.bundle.graphs["model"], sizes)["places"]
    assert places.dtype == np.int64
    assert places.max() < 7
    assert nlpkit.export(run, "torchscript", trust_plugins=True).parity["agreement"] == 1.0


def test_arrays_hold_the_whole_vocabulary_padding_and_places_that_are_there(
    spots: Callable[..., Path],
) -> None:
    model = nlpkit.load(spots(False), trust_plugins=True)
    spec = model.bundle.graphs["model"]
    filling = Filling(model, [Row(row, "") for row in ROWS])
    sizes = grid(spec, 16)
    made = [filling.arrays(spec, each) for each in sizes]
    for each, arrays in zip(sizes, made, strict=True):
        shape = each["rows"], each["tokens"]
        assert arrays["input_ids"].shape == arrays["attention_mask"].shape == shape
        assert arrays["places"].shape == (each["rows"], each["slots"])
        assert arrays["places"].max() < each["tokens"]
        assert arrays["attention_mask"][:, 0].all()
        assert arrays["attention_mask"].all() == (each["rows"] == 1 or each["tokens"] < 2)
    first = np.concatenate([arrays["input_ids"].ravel() for arrays in made])
    size = model.bundle.vocabulary.size
    assert set(first[: 2 * size].tolist()) == set(range(size))
    special = model.tokenizer.get_added_tokens_decoder()
    assert first[: len(special)].tolist() == list(special)


def test_pasts_end_where_the_longest_input_does() -> None:
    axes = {"input_ids": ("rows", "tokens"), "past_key": ("rows", 2, "past", 4)}
    found = grid(GraphSpec(inputs=axes, outputs={}), 8)
    assert max(each["past"] + each["tokens"] for each in found) == 8
    pasts = {
        rows: {each["past"] for each in found if (each["rows"], each["tokens"]) == (rows, 1)}
        for rows in (1, 2)
    }
    assert pasts == {1: {0, 1, 7}, 2: {0, 1}}
