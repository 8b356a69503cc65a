"""Law 6 for each task: an export, asked in a fresh process, says what the model says."""

from __future__ import annotations

import pytest

import nlpkit
from tests.bundle.bundles import make_run
from tests.kept.test_kept import near
from tests.laws.cases import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_an_export_of_each_task_passes_the_gate_and_predicts_the_same(tmp_path, task):
    rows = TASKS[task].rows[:8]
    run = make_run(tmp_path / "run", rows, name=task)
    several = task == "seq2seq"  # graphs
    artifact = nlpkit.export(run, "onnx" if several else "torchscript")
    assert artifact.parity["difference"] <= 1e-4
    assert artifact.parity["agreement"] == 1.0
    writes = task == "clm"  # it needs room behind a prompt
    texts = [row["source" if several else "text"][: 4 if writes else None] for row in rows]
    found, expected = (
        [vars(each) for each in nlpkit.load(place).predict(texts)] for place in (artifact.path, run)
    )
    assert found == near(expected)


@pytest.mark.slow
def test_rounded_weights_of_two_graphs_are_judged_by_the_metric_of_an_evaluation(tmp_path):
    rows = TASKS["seq2seq"].rows[:8]
    run = make_run(tmp_path / "run", rows, name="seq2seq")
    loose = {"quantize": "int8", "min_agreement": 0.0, "max_drop": 1.0}
    metric = nlpkit.export(run, "onnx", **loose).parity["metric"]
    evaluated = nlpkit.evaluate(run, rows)
    assert metric["name"] == "perplexity"
    assert metric["before"] == pytest.approx(evaluated["perplexity"])
    assert metric["after"] == pytest.approx(metric["before"], rel=0.2)
