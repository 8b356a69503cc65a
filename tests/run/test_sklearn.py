"""scikit-learn's own tools take the classifier as one of theirs."""

from __future__ import annotations

import csv
import json
import pickle
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from nlpkit.errors import ConfigError, DataError, InputError
from nlpkit.sklearn import Classifier

SMALL: dict[str, Any] = {
    "device": "cpu",
    "observers": [],
    "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2, "feed_forward": 16},
    "train": {"batch_size": 8, "learning_rate": 3e-3},
}
WORDS = {"ten": 10, "two": 2, "one": 1}


def texts(words: Any = WORDS) -> list[str]:
    return [f"{word} {other}" for word in words for other in ("please", "now", "or so", "at last")]


def learned(labels: Any, **options: Any) -> Classifier:
    """One that knows the words."""
    options = {"train__max_steps": 40, "train__epochs": 40, "data__validation": None} | options
    return Classifier(SMALL, **options).fit(texts(), np.repeat(labels, 4))


def test_a_search_on_the_sample_in_a_pipeline() -> None:
    path = files("nlpkit_data") / "sample" / "train.csv"
    with path.open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)][:120]
    X, y = [row["text"] for row in rows], [row["label"] for row in rows]
    clean = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("clean", clean), ("classifier", Classifier(SMALL, train__max_steps=4))])
    grid = {"classifier__train__learning_rate": [1e-3, 3e-3]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    rates = [each["classifier__train__learning_rate"] for each in search.cv_results_["params"]]
    assert rates == [1e-3, 3e-3]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_["classifier"]
    assert best.get_params()["train__learning_rate"] == search.best_params_[next(iter(grid))]
    assert best.history_[-1]["step"] == 4
    assert best.result_["steps"] == 4
    assert set(search.predict(X)) <= set(y)


@pytest.mark.parametrize("kind", [int, str, float])
def test_labels_keep_their_type_and_order(kind: type) -> None:
    labels = np.array([*map(kind, WORDS.values())])
    found = learned(labels)
    assert found.classes_.dtype == labels.dtype
    assert found.classes_.tolist() == sorted(labels.tolist())
    assert found.predict(list(WORDS)).tolist() == labels.tolist()
    shares = found.predict_proba(list(WORDS))
    assert shares.sum(axis=1) == pytest.approx(1)
    assert found.classes_[shares.argmax(axis=1)].tolist() == labels.tolist()
    assert found.score(texts(), np.repeat(labels, 4)) == 1


def test_a_pickle_needs_no_file_and_a_clone_is_not_fitted(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"name": "gone", **SMALL}), "utf-8")
    found = Classifier(config, train__max_steps=2).fit(texts(), ["a", "b", "c"] * 4)
    config.unlink()
    again = pickle.loads(pickle.dumps(found))  # the folders of its training are gone
    assert again.predict_proba(texts()).tolist() == found.predict_proba(texts()).tolist()
    with pytest.raises(NotFittedError):
        clone(found).predict(texts())


def test_pairs_are_rows_of_two_columns_and_booleans_are_labels() -> None:
    pairs = pd.DataFrame({"question": texts(), "answer": ["no", "yes"] * 6}, index=range(5, 17))
    found = Classifier(SMALL, task__text=["a", "b"], train__max_steps=2)
    y = pairs["answer"] == "yes"
    assert found.fit(pairs, y).classes_.tolist() == [False, True]
    assert found.predict_proba(pairs).tolist() == found.predict_proba(pairs.to_numpy()).tolist()
    with pytest.raises(InputError, match=r"X\[0\] has 1 texts, and the config's task 2"):
        found.fit(texts(), y)


def test_what_cannot_be_trained_is_said() -> None:
    y = np.repeat([1, 2, 3], 4)
    for options, X, labels, error, said in (
        ({}, texts(), None, ValueError, "requires y to be passed"),
        ({}, texts(), y[:4], ValueError, "inconsistent numbers of samples"),
        ({}, texts(), y * 0, InputError, "y has 1 class"),
        ({}, [*texts()[:11], ""], y, DataError, r"row 1[12].*text"),
        ({"task__target": "regression"}, texts(), y, InputError, "with target class and one label"),
        ({"task": "mlm"}, texts(), y, InputError, "the task sequence"),
        ({"train__epoch": 3}, texts(), y, ConfigError, "train.epoch.*did you mean"),
    ):
        with pytest.raises(error, match=said):
            Classifier(SMALL, **options).fit(X, labels)


def test_without_scikit_learn_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import nlpkit.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "nlpkit.sklearn needs scikit-learn: pip install 'nlpkit-sdk[sklearn]'" in done.stderr


class OfNumbers(Classifier):
    """Rows of numbers as texts: what scikit-learn's checks give."""

    def fit(self, X: Any, y: Any) -> Classifier:
        X = validate_data(self, X) if y is None else validate_data(self, X, y)[0]
        return super().fit(self.said(X), y)

    def predict_proba(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return super().predict_proba(self.said(validate_data(self, X, reset=False)))

    @staticmethod
    def said(X: np.ndarray) -> list[str]:
        return [" ".join(f"x{at}_{value:.0f}" for at, value in enumerate(row)) for row in X]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        tags.classifier_tags.poor_score = True  # numbers are no words
        return tags


@pytest.mark.slow
@parametrize_with_checks(
    [OfNumbers(SMALL, train__max_steps=20)],
    expected_failed_checks=lambda _: {
        "check_no_attributes_set_in_init": "keys of the config are parameters, in **options",
        "check_array_api_input": "texts are in no array of numbers",
    },
)
def test_what_scikit_learn_asks_of_its_estimators(estimator: Any, check: Any) -> None:
    check(estimator)


def test_scores_of_a_cross_validation() -> None:
    found = cross_val_score(
        Classifier(SMALL, train__max_steps=2), texts(), np.repeat([1, 2, 3], 4), cv=2
    )
    assert found.shape == (2,)
    assert ((found >= 0) & (found <= 1)).all()
