"""Labels as 0 and 1: lists of them, one column a label; and lists as other programs write them."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

import nlpkit
from nlpkit.contracts import Row
from nlpkit.errors import DataError
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask
from tests.tasks.test_sequence_task import codec, collated

NAMES = ["login", "damage", "refund"]
LISTS = {
    "numbers": [1, 0, 1],
    "floats": [1.0, 0.0, 1.0],
    "booleans": [True, False, True],
    "text in a list": ["1", "0", "1"],
    "JSON": "[1, 0, 1]",
    "JSON of booleans": "[true, false, true]",
    "pandas": "[True, False, True]",
    "a tuple": (1, 0, 1),
    "numpy": "[1 0 1]",
    "numpy over lines": "[1.\n 0. 1.]",
    "a tuple as text": "(1, 0, 1)",
    "a tuple of booleans as text": "(True, False, True)",
    "an array": "array([1, 0, 1])",
    "an array with its type": "array([1., 0., 1.], dtype=float32)",
    "a tensor": "tensor([1, 0, 1], device='cuda:0')",
    "commas": "1, 0, 1",
    "blanks": "1 0 1",
    "semicolons": "1; 0; 1",
    "bars": "1|0|1",
}
BARE = {"commas", "blanks", "semicolons", "bars"}


def row(**values) -> Row:
    return Row({"text": "good", **values}, "train.csv:7")


def task(**options) -> SequenceTask:
    return SequenceTask(SequenceConfig(**options))


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_0_and_1_is_read_by_the_names_of_its_places(name):
    of = task(target="multilabel", labels=NAMES)
    rows = [row(label=LISTS[name]), row(label=[0, 1, 0]), row(label=[0, 0, 0])]
    schema = of.fit(rows)
    assert schema["labels"] == sorted(NAMES)
    assert schema["counts"] == {"damage": 1, "login": 1, "refund": 1}
    batch = collated(of, rows)
    assert batch.targets["label"].tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
    outputs = {"logits": np.array([[-9.0, 9.0, -9.0]])}
    [prediction] = codec(of, rows).decode(outputs, batch)
    assert prediction.labels == ["login"]


@pytest.mark.parametrize("target", ["multilabel", "class"])
@pytest.mark.parametrize("name", sorted(LISTS.keys() - BARE))
def test_without_names_such_a_list_is_an_error_that_says_where_names_go(name, target):
    message = r'^train.csv:7: column "label": ".*" is a list of 0 and 1 \(task.labels: \[a, b, c\]'
    with pytest.raises(DataError, match=message):
        task(target=target).stratum(row(label=LISTS[name]))


def test_text_of_0_and_1_between_commas_is_no_list_of_labels_but_may_be_a_class():
    for name in BARE:
        with pytest.raises(DataError, match="is a list of 0 and 1"):
            task(target="multilabel").stratum(row(label=LISTS[name]))
        assert task().stratum(row(label=LISTS[name])) == LISTS[name]


@pytest.mark.parametrize("cell", [[0.5, 0.2, 0.3], "[.5, .2, .3]", "0.5, 0.5", "[1. 0.0 .2]"])
def test_shares_are_no_labels_but_other_numbers_with_a_point_are(cell):
    of = task(target="multilabel")
    with pytest.raises(DataError, match="lists numbers between 0 and 1, which are no labels"):
        of.stratum(row(label=cell))
    assert of.fit([row(label=[1.5, 0.5])])["labels"] == ["0.5", "1.5"]


@pytest.mark.parametrize("target", ["multilabel", "class"])
def test_a_label_has_a_thousand_characters_at_most(target):
    of = task(target=target)
    of.stratum(row(label="x" * 1000))
    with pytest.raises(DataError, match=r"is a label of 1,001 characters \(1,000 are the most;"):
        of.stratum(row(label="x" * 1001))


def test_numbers_of_labels_are_labels():
    of = task(target="multilabel")
    rows = [row(label=value) for value in ([0, 1], [1], "[2]", "0,2", [], 1, "(0, 1)", "{2}")]
    assert of.fit(rows)["counts"] == {"0": 3, "1": 4, "2": 3}
    assert of.fit([row(label="[007 12]")])["labels"] == ["007", "12"]


def test_lists_of_two_places_are_told_from_labels_by_there_being_nothing_to_learn():
    rows = [row(label=value) for value in ([0, 1], [1, 0], [1, 0])]
    with pytest.raises(DataError, match=r"all rows have the labels 0 and 1 \(task.labels"):
        task(target="multilabel").fit(rows)


def test_classes_that_are_lists_of_two_places_all_are_told_from_intervals():
    with pytest.raises(DataError, match=r"is a list of 0 and 1 \(task.labels: "):
        task().stratum(row(label=[1, 0]))
    rows = [row(label=value) for value in ("[1, 0]", "[0, 1]")]
    with pytest.raises(DataError, match=r"all labels are lists of 0 and 1 \(task.labels: "):
        task().fit(rows)
    assert task().fit([*rows, row(label="[1, 2]")])["labels"] == [
        "[0, 1]",
        "[1, 0]",
        "[1, 2]",
    ]


@pytest.mark.parametrize(
    "cell",
    [
        "['b', \"a's\"]",
        "('b', \"a's\",)",
        "{'b', 'a\\'s'}",
        "['b' \"a's\"]",
        '["b", "a\'s"]',
        "Index(['b', \"a's\"], dtype='object')",
        "frozenset({'b', \"a's\"})",
    ],
)
def test_lists_are_read_as_python_and_numpy_write_them(cell):
    assert task(target="multilabel").fit([row(label=cell)])["labels"] == ["a's", "b"]


@pytest.mark.parametrize("cell", ["[]", "()", "set()", "", None, "[None]", "[nan]"])
def test_empty_ones_have_no_labels(cell):
    rows = [row(label=cell), row(label="x")]
    assert task(target="multilabel").fit(rows)["counts"] == {"x": 1}


def test_brackets_may_be_part_of_a_label():
    of = task(target="multilabel")
    assert of.fit([row(label="(other), {x: y}")])["labels"] == ["(other)", "{x: y}"]
    assert task().stratum(row(label="[other]")) == "[other]"
    assert of.fit([row(label="(1)")])["labels"] == ["(1)"]
    for cell in ("[12]", "(1)", "{1}", "(0, 18)", "[0, 1]"):  # also intervals
        assert task().stratum(row(label=cell)) == cell
    torn = ("{'a': 1, 'b': 0}", "{'a': 1}", "{a: 1, b: 0}", "(1, 0", "(a, b)")
    calls = ("Index(['a', ..., 'b'])", "Counter({'a': 1, 'b': 2})")
    for cell in ("[a, b]", "[1 0 ... 0]", "['a", *torn, "array([1, ..., 0])", "tensor(1)", *calls):
        with pytest.raises(DataError, match=r"is no JSON list \(write \[\"a\", \"b\"\], or sep"):
            of.stratum(row(label=cell))


@pytest.mark.parametrize("cell", ["['damage']", '["damage"]', ["damage"]])
def test_a_list_is_no_single_label(cell):
    with pytest.raises(DataError, match=r"is not a single label \(task.target: multilabel takes"):
        task().stratum(row(label=cell))


@pytest.mark.parametrize("target", ["multilabel", "class"])
def test_one_column_a_label_is_named_by_its_columns(target):
    of = task(target=target, label=NAMES)
    cells = [("1", "0", "0"), (False, True, False), (0.0, 0, 1.0), ("True", "false", "0.0")]
    rows = [row(**dict(zip(NAMES, values, strict=True))) for values in cells]
    schema = of.fit(rows)
    assert schema["counts"] == {"damage": 1, "login": 2, "refund": 1}
    found = collated(of, rows).targets["label"].tolist()
    assert found == ([1, 0, 2, 1] if target == "class" else np.eye(3)[[1, 0, 2, 1]].tolist())
    assert of.stratum(rows[0]) == ("login" if target == "class" else "")


def test_a_class_is_the_only_1_of_its_list():
    of = task(labels=NAMES)
    assert of.stratum(row(label=[0, 0, 1])) == "refund"
    for cell, count in (([0, 0, 0], 0), ([1, 0, 1], 2)):
        with pytest.raises(
            DataError, match=rf"{count} labels have a 1, not one \(task.target: mul"
        ):
            of.stratum(row(label=cell))


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        ({"labels": NAMES}, {"label": [1, 0]}, r'"\[1, 0\]" has 2 places, and task.labels 3 names'),
        ({"labels": NAMES}, {"label": [1, 0, 2]}, "is no list of 0 and 1 .*leave task.labels out"),
        ({"labels": NAMES}, {"label": [1, 0, None]}, "is no list of 0 and 1"),
        ({"labels": NAMES}, {"label": [[1], 0, 0]}, "is no list of 0 and 1"),
        ({"labels": NAMES}, {"label": "login"}, '"login" is no list of 0 and 1'),
        ({"labels": NAMES}, {"label": ""}, "is no list of 0 and 1"),
        ({"labels": NAMES}, {"label": None}, "has 0 places"),
        ({"label": NAMES}, {"login": 1, "damage": "x"}, 'column "damage": "x" is neither 0 nor 1'),
        ({"label": NAMES}, {"login": 1, "damage": float("nan")}, 'column "damage": is neither 0'),
        ({"label": NAMES}, {"login": 1, "damage": 0, "refnd": 0}, '"refund": does not exist; did'),
    ],
)
def test_what_is_no_0_and_no_1_has_an_address_and_a_reason(options, values, message):
    with pytest.raises(DataError, match=f"^train.csv:7: .*{message}"):
        task(target="multilabel", **options).stratum(row(**values))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": []}, "a column, or a list of columns"),
        ({"label": ["a", "a"]}, "names one twice: a, a"),
        ({"label": ["a", "b"], "labels": ["x", "y"]}, "are the labels; remove it"),
        ({"label": ["a", "b"], "target": "regression"}, "regression takes one column"),
        ({"labels": ["a", "b"], "target": "regression"}, "regression has no labels"),
        ({"labels": "a"}, "must be a list of labels"),
        ({"labels": [1, 2]}, "put numbers into quotes"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        SequenceConfig(**options)


def test_a_named_label_without_rows_is_learned_of_and_weighs_one():
    of = task(labels=NAMES, class_weights="balanced")
    schema = of.fit([row(label=value) for value in ([1, 0, 0], [0, 1, 0], [0, 1, 0])])
    assert schema["counts"] == {"damage": 2, "login": 1, "refund": 0}
    assert schema["weights"] == {"damage": 0.75, "login": 1.5, "refund": 1.0}
    with pytest.raises(DataError, match="the training rows have one label; at least 2"):
        of.fit([row(label=[1, 0, 0])])


def test_a_run_evaluates_and_predicts_by_the_names(tmp_path):
    words = {"login": "password", "damage": "broken", "refund": "money"}
    rows = [
        {"text": f"{' '.join(words[name] for name in some)} {number}", "tags": tags}
        for number in range(8)
        for tags in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1])
        for some in [[name for name, tag in zip(NAMES, tags, strict=True) if tag]]
    ]
    config = {
        "name": "hot",
        "task": {"name": "sequence", "label": "tags", "labels": NAMES, "target": "multilabel"},
        "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2},
        "tokenizer": {"name": "wordpiece", "vocab_size": 60, "max_length": 12},
        "data": {"validation": 0.25},
        "train": {"epochs": 1, "batch_size": 8},
        "loader": {"workers": 0},
        "observers": [],
        "device": "cpu",
        "precision": "fp32",
    }
    run = nlpkit.train(config, data={"train": rows, "test": rows}, out=tmp_path / "run")
    table = run.result["details"]["test"]["per_class"]
    assert [line["label"] for line in table] == sorted(NAMES)
    assert [line["support"] for line in table] == [8, 16, 16]
    assert nlpkit.evaluate(run.path, rows) == pytest.approx(run.metrics["test"], abs=1e-6)
    assert set(nlpkit.load(run.path).predict(["money"])[0].probabilities) == set(NAMES)
