"""A task steps an engine: live, of a bundle, of an ONNX export; with a cache the same ids."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import nlpkit
from nlpkit.bundle.parity import Gate
from nlpkit.contracts import Approximation, Artifact, Codec, Row
from nlpkit.engine.generate import Steps
from nlpkit.engine.precision import resolve_device, resolve_precision
from nlpkit.engine.torch import TorchEngine
from tests.bundle.generating import TEXTS, trained

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Arrays, Engine

PROMPTS = ["one two", "three", "two three four five", "five six seven"]
NEVER = -1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        return trained(folder / "made", export=["onnx"]).path


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return nlpkit.load(run, trust_plugins=True)


@pytest.fixture(params=["live", "torch", "onnx"])
def engine(run: Path, model: Model, request: pytest.FixtureRequest) -> Engine:
    """A live module in training; a bundle; its ONNX export."""
    if request.param == "live":
        network = model.engine.model.train()  # type: ignore[attr-defined]
        device = resolve_device("cpu")
        precision = resolve_precision("fp32", device)
        return TorchEngine(network, model.codec, device=device, precision=precision)
    return nlpkit.load(run, backend=request.param, trust_plugins=True).engine


class Counted:
    """An engine that counts the tokens that pass it."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.graphs, self.tokens = engine, engine.graphs, 0

    def run(self, inputs: Arrays, graph: str = "model") -> dict[str, np.ndarray]:
        self.tokens += inputs["input_ids"].size
        return self._engine.run(inputs, graph)


def generated(model: Model, engine: Engine, prompts: list[str], **settings: Any) -> list[list[int]]:
    ids = model.codec.predict(engine, model.batch(prompts), settings)["ids"]
    return [[number for number in row if number >= 0] for row in ids.tolist()]


def test_it_goes_on_counting(model: Model) -> None:
    words = [model.tokenizer.encode(word).ids[1:-1] for word in "three four five six".split()]
    (prediction,) = model.predict(["one two"])
    assert prediction.ids == " ".join(str(number) for word in words for number in word)


def test_with_a_cache_and_without_one_alone_and_beside_others_the_ids_are_the_same(
    model: Model, engine: Engine
) -> None:
    expected = generated(model, model.engine, PROMPTS, cache=False, max_tokens=5, end=NEVER)
    assert {len(row) for row in expected} == {5}
    assert generated(model, engine, PROMPTS, cache=False, max_tokens=5, end=NEVER) == expected
    assert generated(model, engine, PROMPTS, max_tokens=5, end=NEVER) == expected
    alone = [generated(model, engine, [each], max_tokens=5, end=NEVER)[0] for each in PROMPTS]
    assert alone == expected


def test_a_row_that_has_ended_leaves_and_the_others_go_on_as_before(
    model: Model, engine: Engine
) -> None:
    whole = generated(model, engine, PROMPTS, max_tokens=5, end=NEVER)
    end = whole[0][1]
    expected = [row[: row.index(end) + 1] if end in row else row for row in whole]
    assert len({len(row) for row in expected}) > 1
    assert generated(model, engine, PROMPTS, max_tokens=5, end=end) == expected


def test_no_prefix_is_computed_twice(model: Model, engine: Engine) -> None:
    prompt = model.batch(PROMPTS).inputs["input_ids"].size
    counted = Counted(engine)
    generated(model, counted, PROMPTS, max_tokens=5, end=NEVER)
    assert counted.tokens == prompt + len(PROMPTS) * 4


def test_no_token_passes_the_first_layer_of_a_module_twice(model: Model) -> None:
    seen: list[int] = []
    table = model.engine.model.embedding  # type: ignore[attr-defined]
    hook = table.register_forward_hook(lambda _, given, __: seen.append(given[0].numel()))
    generated(model, model.engine, PROMPTS, max_tokens=5, end=NEVER)
    hook.remove()
    assert seen == [model.batch(PROMPTS).inputs["input_ids"].size, *[len(PROMPTS)] * 4]


def test_rows_go_on_in_any_order_and_as_often_as_they_are_named(
    model: Model, engine: Engine
) -> None:
    inputs, steps = model.batch(PROMPTS).inputs, Steps(engine)
    mask = np.pad(inputs["attention_mask"], ((0, 0), (0, 1)), constant_values=1)
    ids = inputs["input_ids"][:, -1:]
    steps.start(inputs)
    expected = steps.step({"input_ids": ids, "attention_mask": mask})["logits"]
    places = [2, 0, 2]
    steps.start(inputs)
    steps.reorder(places)
    given = {"input_ids": ids[places], "attention_mask": mask[places]}
    found = steps.step(given)
    assert list(found) == ["logits"]
    assert found["logits"] == pytest.approx(expected[places], abs=1e-5)


def test_a_live_module_is_in_training_afterwards_as_before(model: Model) -> None:
    network = model.engine.model  # type: ignore[attr-defined]
    for training in (True, False):
        network.train(training)
        generated(model, model.engine, ["one two"])
        assert network.training is training


def test_the_gate_asked_pasts_of_every_length_and_generated_ids(run: Path) -> None:
    parity = nlpkit.load(run, backend="onnx", trust_plugins=True).bundle.path / "parity.json"
    found = json.loads(parity.read_text())
    pasts = {(each["length"], each["past"]) for each in found["shapes"] if each["batch"] == 1}
    assert {(1, 0), (1, 1), (1, 15), (7, 0), (7, 1), (16, 0)} <= pasts
    assert found["difference"] < 1e-5
    assert found["agreement"] == 1.0


@pytest.mark.slow
def test_rounded_weights_are_judged_by_the_metric_of_what_is_generated(
    run: Path, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"quantize": "int8", "min_agreement": 0.0, "max_drop": 1.0}
    artifact = nlpkit.export(run, "onnx", out=tmp_path / "out", trust_plugins=True, **options)
    metric = artifact.parity["metric"]
    assert metric["name"] == "right"
    evaluated = json.loads((run / "result.json").read_text())["metrics"]["validation"]
    assert metric["before"] == pytest.approx(evaluated["right"])
    assert 0 < metric["after"] <= 1
    monkeypatch.setattr(type(model.codec), "metrics", Codec.metrics)
    judged = Gate(model, [Row({"text": text}, "") for text in TEXTS]).judge(artifact, [])
    assert judged["passed"]
    assert judged["metric"] is None


@pytest.mark.slow
def test_rounded_weights_may_write_more_or_fewer_tokens_for_labels_tell(
    run: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Row({"text": text}, "") for text in TEXTS]
    exact = nlpkit.load(run, backend="onnx", trust_plugins=True).bundle.path
    artifact = Artifact(path=exact, files=[])
    short = model.codec.predict
    monkeypatch.setattr(model.codec, "predict", lambda *given: {"ids": short(*given)["ids"][:, :1]})
    gate = Gate(model, rows)
    assert "ids of shape" in gate.judge(artifact, [])["failures"][0]
    rounded = replace(artifact, approximation=Approximation())
    assert gate.judge(rounded, [])["failures"] == [
        "0.00% of the labels stay, less than 98.00%",
        "0.00% of the labels stay, less than 98.00%",
    ]
