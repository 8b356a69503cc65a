"""What was predicted of held-out rows: each once, in their order, however they were spread."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

import nlpkit
from nlpkit.bundle.load import load
from nlpkit.config.load import load_config
from nlpkit.config.resolve import build, build_objective
from nlpkit.config.schema import Component
from nlpkit.data.loader import Loading, evaluation_batches
from nlpkit.data.prepare import prepare
from nlpkit.nn import StepModule
from nlpkit.training.evaluation import evaluate
from nlpkit.training.predictions import put_in_order, recorded
from tests.bundle.bundles import LABELS, NUMBERS, ROWS, TEXTS, make_run
from tests.test_runs import CONFIG
from tests.test_runs import ROWS as MANY

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.bundle.predict import Model
    from nlpkit.data.store import TokenStore

TASKS = {
    "class": (ROWS, {}),
    "multilabel": (LABELS, {"target": "multilabel"}),
    "regression": (NUMBERS, {"target": "regression"}),
    "windows": (ROWS, {"long_text": "window"}),
}


def made(folder: Path, case: str) -> tuple[Model, TokenStore]:
    """A model, and the store of the rows that it was made with."""
    rows, task = TASKS[case]
    run = make_run(folder / "cards", rows, **task)
    model = load(run, device="cpu")
    config = load_config(run / "config.yaml")
    return model, prepare(config, model.host, nlpkit.run.train.Terminal()).stores["train"]


def predicted(
    path: Path, model: Model, store: TokenStore, *, ranks: int
) -> list[dict[str, object]]:
    """The lines that so many ranks write, one after the other here."""
    objective = build_objective(model.bundle.task, model.host, model.bundle.schema)
    for rank in range(ranks):
        with recorded(path, model.codec, model.engine, store, rank=rank) as record:
            evaluate(
                StepModule(model.engine.model, objective, model.bundle.head).eval(),
                evaluation_batches(
                    store,
                    model.codec,
                    2,
                    Loading(rank=rank, size=ranks),
                ),
                model.codec.metrics(),
                strategy=build(
                    Component(name="single"), "strategy", model.host, torch.device("cpu")
                ),
                precision=model.engine.precision,
                record=record,
            )
    put_in_order(path, ranks=ranks, rows=len(store))
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("case", TASKS)
def test_each_row_stands_once_in_the_rows_order_on_any_number_of_ranks(tmp_path, case):
    model, store = made(tmp_path, case)
    rows = TASKS[case][0]
    alone = predicted(tmp_path / "one" / "validation.jsonl", model, store, ranks=1)
    assert [line["address"] for line in alone] == [store.address(at) for at in range(len(rows))]
    for line, row, found in zip(alone, rows, model.predict(TEXTS), strict=True):
        (_, prediction), *score = found.row().items()
        assert line["target"] == (sorted(row["label"]) if case == "multilabel" else row["label"])
        assert line["prediction"] == prediction or line["prediction"] == pytest.approx(prediction)
        for name, value in score:
            assert line[name] == pytest.approx(value, abs=1e-6)
    for ranks in (3, 7):  # of more than there are batches, some have nothing
        together = tmp_path / f"{ranks}" / "validation.jsonl"
        assert predicted(together, model, store, ranks=ranks) == alone


def test_what_is_no_number_is_null_and_a_label_of_that_name_stays(tmp_path):
    rows = [{**row, "label": "NaN" if row["label"] == "lost" else "other"} for row in ROWS]
    run = make_run(tmp_path / "cards", rows)
    model = load(run, device="cpu")
    model.engine.model.head.linear.weight.data.fill_(torch.nan)
    store = prepare(
        load_config(run / "config.yaml"), model.host, nlpkit.run.train.Terminal()
    ).stores
    line = predicted(tmp_path / "out" / "o.jsonl", model, store["train"], ranks=1)[2]
    assert line["target"] == "NaN"
    assert line["score"] is None


def test_a_run_has_the_best_models_predictions_of_validation_and_test(tmp_path):
    data = {"train": MANY, "test": MANY[:5]}
    config = {**CONFIG, "train": {"epochs": 2}, "precision": "fp32"}
    run = nlpkit.train(config, data=data, out=tmp_path / "run")
    for split in ("validation", "test"):
        lines = run.predictions(split)
        assert len(lines) == run.result["samples"][split]
        right = sum(line["prediction"] == line["target"] for line in lines) / len(lines)
        assert right == run.metrics[split]["accuracy"]
    assert [line["address"] for line in run.predictions("test")] == [
        f"test row {number}" for number in range(5)
    ]
    texts = [row["text"] for row in MANY[:5]]
    scores = [each.score for each in nlpkit.load(run, device="cpu").predict(texts)]
    assert [line["score"] for line in run.predictions("test")] == pytest.approx(scores, abs=1e-6)
    with pytest.raises(nlpkit.BundleError, match="no held-out train rows; it has validation and"):
        run.predictions("train")


def test_a_run_without_predictions_says_how_they_are_had(tmp_path):
    config = {**CONFIG, "eval": {"predictions": False}}
    run = nlpkit.train(config, data={"train": MANY}, out=tmp_path / "run")
    assert not (run.path / "predictions").exists()
    with pytest.raises(nlpkit.BundleError, match=r"eval\.predictions was false.*output=FILE"):
        run.predictions("validation")
