"""Long texts in windows: one prediction a text, the same in training, evaluation and exports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import nlpkit
from nlpkit.bundle.gate import answers, questions
from nlpkit.bundle.grid import grid
from nlpkit.bundle.parity import Gate
from nlpkit.config.resolve import build_objective
from nlpkit.contracts import Row
from nlpkit.data.encode import fitted
from nlpkit.data.loader import to_tensors
from nlpkit.nn import StepModule
from tests.bundle.bundles import CLASSES, TEXTS, make_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Batch, Example

LONG = [" ".join([*TEXTS[at:], *TEXTS[:at]]) for at in range(3)]
TEXTS_ = [*TEXTS, *LONG]
LABELS = [*CLASSES, *CLASSES[:3]]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS_, LABELS, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("windows")


def made(folder: Path, name: str, **task: Any) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        return make_run(folder / name, ROWS, **task)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return made(folder, "window", long_text="window")


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return nlpkit.load(run)


def scores(predictions: list[Any]) -> np.ndarray:
    return np.array([list(each.scores.values()) for each in predictions])


def windows(batch: Batch) -> list[int]:
    rows = len(batch.inputs["input_ids"])
    found: list[int] = [1] * rows if batch.rows is None else batch.rows.tolist()
    assert sum(found) == rows
    return found


def test_a_long_text_has_the_mean_of_its_windows_logits(model: Model) -> None:
    text = LONG[0]
    encoding = fitted(model.tokenizer, model.codec.parts["text"], 16).encode(text)
    windows = [encoding, *encoding.overflowing]
    assert len(windows) > 3
    logits = []
    for window in windows:  # each on its own, without any padding
        ids = np.array([window.ids])
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        logits.append(model.engine.run(inputs)["logits"][0])
    powers = np.exp(np.mean(logits, axis=0))
    (found,) = model.predict([text])
    assert scores([found])[0] == pytest.approx(powers / powers.sum(), abs=1e-6)
    assert np.abs(np.ptp(logits, axis=0)).max() > 0.1  # so the mean is none of them


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_neighbours_and_batches_change_no_prediction(model: Model, batch_size: int) -> None:
    alone = [model.predict([text])[0] for text in TEXTS_]
    together = model.predict(TEXTS_, batch_size=batch_size)
    assert scores(together) == pytest.approx(scores(alone), abs=1e-6)


def test_batches_of_prediction_have_room_for_windows(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    collate, seen = model.codec.collate, []

    def watched(examples: Sequence[Example], seeds: Sequence[int]) -> Batch:
        batch = collate(examples, seeds)
        seen.append(windows(batch))
        return batch

    monkeypatch.setattr(model.codec, "collate", watched)
    model.predict(TEXTS_, batch_size=4)
    assert all(sum(windows) <= 4 or len(windows) == 1 for windows in seen)
    assert sum(map(len, seen)) == len(TEXTS_)
    assert max(map(sum, seen)) > 4  # a text that has more alone is not split


def test_short_texts_are_predicted_as_by_a_task_that_truncates(folder: Path, model: Model) -> None:
    other = nlpkit.load(made(folder, "truncate"))
    short = [text for text in TEXTS if len(model.tokenizer.encode(text)) <= 16]
    assert len(short) > 3
    assert (scores(model.predict(short)) == scores(other.predict(short))).all()
    assert (scores(model.predict(LONG)) != scores(other.predict(LONG))).all()


def test_training_has_the_logits_of_prediction(model: Model) -> None:
    arrays = model.batch([Row(row, "") for row in ROWS], targets=True)
    batch = to_tensors(arrays)
    bundle = model.bundle
    objective = build_objective(bundle.task, model.host, bundle.schema)
    module = StepModule(model.engine.model, objective, bundle.head)
    with torch.no_grad():
        logits = objective.output(module.logits(batch.inputs), batch.targets, batch.rows).numpy()
    assert logits.shape == (len(ROWS), 3)
    powers = np.exp(logits)
    expected = scores(model.predicted(arrays))
    assert powers / powers.sum(axis=1, keepdims=True) == pytest.approx(expected, abs=1e-6)


def test_an_evaluation_is_of_texts_not_of_windows(run: Path, model: Model) -> None:
    predictions = model.predict(TEXTS_)
    losses = [
        -math.log(each.scores[label]) for each, label in zip(predictions, LABELS, strict=True)
    ]
    right = [each.label == label for each, label in zip(predictions, LABELS, strict=True)]
    for batch_size in (2, 64):
        values = nlpkit.evaluate(run, ROWS, batch_size=batch_size)
        assert values["loss"] == pytest.approx(np.mean(losses), abs=1e-6)
        assert values["accuracy"] == np.mean(right)


def test_the_gate_asks_a_grid_of_single_windows_and_whole_texts_in_batches_with_room(
    model: Model, tmp_path: Path
) -> None:
    rows = [Row(row, "") for row in ROWS] * 8
    cases = questions(model, rows, Gate(model, rows).sizes, tmp_path, alone=0)
    shapes = grid(model.bundle.graphs["model"], 16)
    assert [case.sizes for case in cases if case.graph] == shapes
    for case, answer in zip(cases, answers(model, tmp_path), strict=True):
        if case.graph:
            assert answer.outputs["logits"].shape == (case.sizes["rows"], 3)
        else:
            assert answer.outputs["logits"].shape[0] == answer.sizes["rows"] <= 64
            assert len(answer.labels) == len(case.rows)
    whole = [case.rows for case in cases if not (case.graph or case.alone)]
    assert sorted(place for places in whole for place in places) == list(range(len(rows)))
    assert len(whole) > len(rows) // 64 + 1


def test_the_gate_compares_windows_and_decodes_texts(model: Model, tmp_path: Path) -> None:
    rows = [Row(row, "") for row in ROWS]
    gate = Gate(model, rows)
    cases = questions(model, rows, gate.sizes, tmp_path, alone=0)
    pairs: list[Any] = [
        gate._compared(case, each, each, exact=True)
        for case, each in zip(cases, answers(model, tmp_path), strict=True)
    ]
    texts = [pair for pair in pairs if not (pair.case.graph or pair.case.alone)]
    assert sum(len(pair.labels) for pair in texts) == len(ROWS)
    predicted = {place: each.label for place, each in enumerate(model.predict(TEXTS_))}
    for pair in texts:
        assert [own["label"] for own, _ in pair.labels] == [
            predicted[place] for place in pair.case.rows
        ]
    batches = [[rows[place] for place in pair.case.rows] for pair in texts]
    metric = gate._metric(model.bundle.path, batches)
    assert metric
    assert metric["before"] == metric["after"]
    assert metric["before"] == nlpkit.evaluate(model.bundle.path, ROWS)[metric["name"]]


@pytest.mark.slow
def test_an_onnx_export_passes_the_gate_and_predicts_the_same(run: Path, model: Model) -> None:
    artifact = nlpkit.export(run, "onnx")
    assert artifact.parity["passed"]
    assert artifact.parity["agreement"] == 1.0
    exported = nlpkit.load(run, backend="onnx")
    expected = model.predict(TEXTS_, batch_size=3)
    assert scores(exported.predict(TEXTS_, batch_size=5)) == pytest.approx(
        scores(expected), abs=1e-4
    )
