"""Metrics are scikit-learn's numbers, and add up over any split into batches."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from nlpkit.contracts import Batch
from nlpkit.metrics import Confusion, MultilabelCounts, RegressionMoments

RNG = np.random.default_rng(5)
LABELS = ["a", "b", "c", "d", "unseen"]
MACRO = {"average": "macro", "zero_division": np.nan}


def batch(label: np.ndarray) -> Batch:
    return Batch(inputs={}, targets={"label": label}, count=len(label))


def measured(metric, output: np.ndarray, label: np.ndarray, size: int = 7):
    for start in range(0, len(label), size):
        metric.update(output[start : start + size], batch(label[start : start + size]))
    return metric


def classes(rows: int = 60):
    label = RNG.integers(0, 4, rows)
    logits = (
        RNG.normal(size=(rows, 5)).astype(np.float32) + 1.5 * np.eye(5, dtype=np.float32)[label]
    )
    logits[:, 4] = -9
    return logits, label


def test_classification_is_scikit_learns():
    logits, label = classes()
    predicted = logits.argmax(1)
    metric = measured(Confusion(LABELS), logits, label)
    assert metric.compute(metric.state) == pytest.approx(
        {
            "accuracy": sklearn_metrics.accuracy_score(label, predicted),
            "macro_f1": sklearn_metrics.f1_score(label, predicted, average="macro"),
            "weighted_f1": sklearn_metrics.f1_score(label, predicted, average="weighted"),
        },
        abs=1e-12,
    )
    details = metric.details(metric.state)
    expected = sklearn_metrics.precision_recall_fscore_support(
        label, predicted, labels=range(5), zero_division=0
    )
    for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[column] for row in details["per_class"]] == pytest.approx(values.tolist())
    matrix = sklearn_metrics.confusion_matrix(label, predicted, labels=range(5))
    assert details["confusion_matrix"] == {"labels": LABELS, "rows": matrix.tolist()}


def test_multilabel_is_scikit_learns():
    truth = (RNG.random((40, 5)) < 0.3).astype(np.uint8)
    logits = RNG.normal(size=(40, 5)) + truth
    truth[:, 4], logits[:, 4] = 0, -1
    predicted = logits >= 0
    metric = measured(MultilabelCounts(LABELS), logits, truth)
    assert metric.compute(metric.state) == pytest.approx(
        {
            "macro_f1": sklearn_metrics.f1_score(truth, predicted, **MACRO),
            "micro_f1": sklearn_metrics.f1_score(truth, predicted, average="micro"),
            "subset_accuracy": sklearn_metrics.accuracy_score(truth, predicted),
        },
        abs=1e-12,
    )
    expected = sklearn_metrics.precision_recall_fscore_support(truth, predicted, zero_division=0)
    rows = metric.details(metric.state)["per_class"]
    for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[column] for row in rows] == pytest.approx(values.tolist())


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_regression_is_scikit_learns_and_scipys_far_from_zero_too(offset):
    label = offset + RNG.normal(size=50)
    output = (label + RNG.normal(size=50))[:, None]
    metric = measured(RegressionMoments(shift=offset + 0.3), output, label)
    values = metric.compute(metric.state)
    assert values["mse"] == pytest.approx(sklearn_metrics.mean_squared_error(label, output))
    assert values["pearson"] == pytest.approx(np.corrcoef(label, output[:, 0])[0, 1], abs=1e-9)


def test_correlation_with_a_constant_is_zero():
    label = 3 + RNG.normal(size=50)
    metric = measured(RegressionMoments(shift=3.1), np.full((50, 1), 2.7), label)
    assert metric.compute(metric.state)["pearson"] == 0


def test_a_metric_without_rows_is_zero_and_not_an_error():
    for metric in (Confusion(LABELS), MultilabelCounts(LABELS), RegressionMoments()):
        assert set(metric.compute(metric.state).values()) == {0.0}


def test_values_stand_in_the_order_of_better():
    for metric in (Confusion(LABELS), MultilabelCounts(LABELS), RegressionMoments()):
        assert list(metric.compute(metric.state)) == list(metric.better)


def test_states_of_ranks_add_up_to_the_state_of_one():
    logits, label = classes(13)
    ranks = [measured(Confusion(LABELS), logits[rank::3], label[rank::3]) for rank in range(3)]
    whole = measured(Confusion(LABELS), logits, label, size=4)
    state = np.concatenate([rank.state for rank in ranks])
    assert len(state) > len(whole.state)  # places stand several times
    assert whole.compute(state) == whole.compute(whole.state)
    assert whole.details(state) == whole.details(whole.state)


def test_many_labels_take_memory_of_the_cells_that_are_not_0():
    size = 100_000
    metric = Confusion([f"label {number}" for number in range(size)])
    truth = np.array([7, 99_999, 7, 7])
    logits = np.zeros((4, size), np.float32)
    logits[range(4), [7, 3, 9, 9]] = 1
    tracemalloc.start()
    metric.update(logits, batch(truth))
    metric.update(logits, batch(truth))
    details = metric.details(metric.state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1000 * size  # of which the table by label is most
    assert details["confusion_matrix"]["cells"] == [[7, 7, 2], [7, 9, 4], [99_999, 3, 2]]
    assert details["per_class"][7]["recall"] == 1 / 3
    assert metric.compute(metric.state)["accuracy"] == 0.25


def test_cells_and_rows_of_a_confusion_matrix_are_the_same(monkeypatch):
    logits, label = classes()
    metric = measured(Confusion(LABELS), logits, label)
    rows = np.array(metric.details(metric.state)["confusion_matrix"]["rows"])
    monkeypatch.setattr("nlpkit.metrics._MATRIX", 4)
    cells = metric.details(metric.state)["confusion_matrix"]["cells"]
    assert cells == [[*place, rows[tuple(place)]] for place in np.argwhere(rows).tolist()]
