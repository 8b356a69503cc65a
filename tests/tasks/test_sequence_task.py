"""The task `sequence` in numpy: cells, schema, encoding, batches, predictions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from nlpkit.contracts import Row, Vocabulary, Windows
from nlpkit.errors import ConfigError, DataError
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask

TOKENIZER = Tokenizer(WordLevel({"[UNK]": 0, "good": 1, "bad": 2}, unk_token="[UNK]"))
TOKENIZER.pre_tokenizer = Whitespace()


def row(line: int = 2, /, **values) -> Row:
    return Row({"text": "good", **values}, f"data/train.csv:{line}")


def task(**options) -> SequenceTask:
    return SequenceTask(SequenceConfig(**options))


def codec(task: SequenceTask, rows=(), schema=None):
    return task.codec(schema or task.fit(rows), Vocabulary(size=3, max_length=9))


def encoded(task: SequenceTask, rows, schema=None, use="train"):
    of = codec(task, rows, schema)
    examples = []
    for item in rows:
        texts = task.texts(item, targets=True)["text"]
        encoding = TOKENIZER.encode(*([texts] if isinstance(texts, str) else texts))
        if of.parts["text"].long == Windows():
            encoding = [encoding, *encoding.overflowing]
        examples.append(of.encode(item, {"text": encoding}, use))
    return examples


def collated(task: SequenceTask, rows, schema=None, use="train"):
    examples = encoded(task, rows, schema, use)
    return codec(task, rows, schema).collate(examples, [0] * len(rows))


def test_labels_are_sorted_text_whatever_their_type():
    rows = [row(label=value) for value in (" refund ", True, False, 1, 2.5, "refund")]
    schema = task().fit(rows)
    assert schema["labels"] == ["1", "2.5", "false", "refund", "true"]
    assert schema["counts"]["refund"] == 2
    assert json.loads(json.dumps(schema)) == schema


def test_a_whole_number_is_one_label_whatever_its_type():
    rows = [row(label=value) for value in (1, 1.0, "1", 0.0, 2.5)]
    assert task().fit(rows)["counts"] == {"0": 1, "1": 3, "2.5": 1}


@pytest.mark.parametrize("target", ["class", "multilabel", "regression"])
def test_nan_is_a_missing_value(target):
    of = task(target=target)
    if target == "multilabel":
        assert of.fit([row(label=[math.nan, "a"]), row(label=math.nan)])["labels"] == ["a"]
        return
    with pytest.raises(DataError, match="the label is empty|the number is missing"):
        of.stratum(row(label=math.nan))
    with pytest.raises(DataError, match="the text is empty"):
        of.texts(Row({"text": math.nan}, "x:1"), targets=False)


def test_balanced_weights_are_rows_by_labels_and_count():
    rows = [row(label=label) for label in "aaab"]
    assert task(class_weights="balanced").fit(rows)["weights"] == {"a": 4 / 6, "b": 2.0}


def test_given_weights_are_completed_with_one():
    rows = [row(label=label) for label in "aaab"]
    assert task(class_weights={"b": 3}).fit(rows)["weights"] == {"a": 1.0, "b": 3.0}


def test_weight_of_an_unknown_label_is_a_config_error():
    rows = [row(label=label) for label in ("positive", "negative")]
    with pytest.raises(
        ConfigError, match=r'task.class_weights: "postive" is not one of the 2 .*did'
    ):
        task(class_weights={"postive": 3}).fit(rows)


def test_weights_of_class_and_row_multiply_and_make_the_count():
    of = task(class_weights={"b": 3}, weight="w")
    rows = [row(label=label, w=weight) for label, weight in (("a", "0.5"), ("b", 2), ("b", 0))]
    batch = collated(of, rows)
    assert batch.targets["label"].tolist() == [0, 1, 1]
    assert batch.targets["weight"].tolist() == [0.5, 6.0, 0.0]
    assert batch.count == 6.5


def test_inputs_are_padded_int64_with_a_mask():
    rows = [row(label="a"), Row({"text": "bad good bad", "label": "b"}, "data/train.csv:3")]
    examples = encoded(task(), rows)
    assert {name: value.dtype for name, value in examples[0].items()} == {
        "input_ids": np.int32,
        "token_type_ids": np.uint8,
        "label": np.int64,
        "weight": np.float64,
    }
    batch = collated(task(), rows)
    assert batch.inputs["input_ids"].tolist() == [[1, 0, 0], [2, 1, 2]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert {array.dtype for array in batch.inputs.values()} == {np.dtype(np.int64)}


def test_windows_are_rows_of_the_inputs_and_the_targets_stay_one_a_sample(monkeypatch):
    of = task(long_text="window")
    cutting = Tokenizer.from_str(TOKENIZER.to_str())
    cutting.enable_truncation(4, stride=1)
    rows = [Row({"text": text, "label": text[:3]}, "x:1") for text in ("good bad", "bad " * 6)]
    monkeypatch.setattr(f"{__name__}.TOKENIZER", cutting)
    examples = encoded(of, rows)
    assert [example["windows"].tolist() for example in examples] == [[2], [4, 3]]
    assert [codec(of, rows).lengths(each) for each in examples] == [[(2,)], [(4,), (3,)]]
    assert {example["windows"].dtype for example in examples} == {np.dtype(np.int32)}
    assert examples[1]["input_ids"].tolist() == [2] * 7
    batch = collated(of, rows)
    assert batch.rows.tolist() == [1, 2]
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 0, 0], [2, 2, 2, 2], [2, 2, 2, 0]]
    assert batch.inputs["attention_mask"].sum(axis=1).tolist() == [2, 4, 3]
    assert (len(batch.targets["label"]), batch.count) == (2, 2.0)
    assert collated(task(), rows).rows is None
    assert (
        batch.inputs.keys() == collated(task(), rows).inputs.keys() == codec(of, rows).inputs.keys()
    )


def test_windows_of_pairs_are_refused():
    with pytest.raises(ValidationError, match="window works with one text column, not with a pair"):
        SequenceConfig(text=("a", "b"), long_text="window")


def test_pairs_have_two_texts_and_two_token_types():
    of = task(text=["a", "b"])
    rows = [Row({"a": "good", "b": "bad bad", "label": label}, "x:1") for label in "xy"]
    assert of.columns == {"text": ("a", "b")}
    assert of.texts(rows[0], targets=False) == {"text": ("good", "bad bad")}
    assert encoded(of, rows)[0]["token_type_ids"].tolist() == [0, 1, 1]


@pytest.mark.parametrize("cell", ["b, a", ["a", "b"], '["b", "a"]', ["a", "b", "a"]])
def test_multilabel_reads_lists_and_commas(cell):
    of = task(target="multilabel")
    rows = [row(label=cell), row(label=""), row(label=None), row(label="c")]
    batch = collated(of, rows)
    assert batch.targets["label"].tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert batch.count == 4 * 3


def test_regression_keeps_float64():
    of = task(target="regression")
    rows = [row(label="0.1"), row(label=-2)]
    assert (codec(of, rows).head.size, of.fit(rows)["mean"]) == (1, -0.95)
    batch = collated(of, rows)
    assert batch.targets["label"].tolist() == [0.1, -2.0]
    assert batch.targets["label"].dtype == np.float64


def test_only_a_single_label_is_stratified():
    assert task().stratum(row(label=" a ")) == "a"
    assert task(target="multilabel").stratum(row(label="a,b")) == ""
    assert task(target="regression").stratum(row(label="1.5")) == ""


def test_without_targets_no_label_is_needed():
    batch = collated(task(), [row()], {"labels": ["a"], "counts": {}}, "predict")
    assert (batch.targets, batch.count) == ({}, 1)


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (
            {},
            {"label": 2},
            r"is not one of the 3 labels \(if numbers stand for classes, give",
        ),
        ({}, {"label": "postive"}, 'column "label": "postive" is not one of the 3 labels; did you'),
        (
            {},
            {"lable": "a"},
            r'column "label": does not exist; did you mean "lable"\? \(the columns',
        ),
        ({}, {"label": None}, 'column "label": the label is empty'),
        ({}, {"label": ["a", "b"]}, "is not a single label .*multilabel takes lists"),
        ({}, {"label": "neutral", "text": "  "}, 'column "text": the text is empty'),
        ({}, {"label": "neutral", "text": None}, 'column "text": the text is empty'),
        ({}, {"label": "neutral", "text": 7}, 'column "text": "7" is not text'),
        ({"target": "multilabel"}, {"label": '["a'}, "is no JSON list"),
        ({"target": "regression"}, {"label": "good"}, '"good" is not a finite number'),
        ({"target": "regression"}, {"label": "nan"}, '"nan" is not a finite number'),
        ({"target": "regression"}, {"label": 10**400}, "is not a finite number"),
        ({"target": "regression"}, {"label": "1_000"}, '"1_000" is not a finite number'),
        ({"weight": "w"}, {"label": "neutral", "w": "1_0"}, 'column "w": "1_0" is not a finite'),
        (
            {"target": "regression"},
            {"label": "1,90"},
            r'"1,90" is not a finite number \(write 1.90, the decimal sign is a point',
        ),
        ({"weight": "w"}, {"label": "neutral", "w": "-1.234,5"}, r"\(write -1234.5, the dec"),
        ({"target": "regression"}, {"label": True}, '"True" is not a finite number'),
        ({"target": "regression"}, {"label": ""}, "the number is missing"),
        ({"weight": "w"}, {"label": "neutral", "w": "-1"}, 'column "w": "-1.0" is below 0'),
        ({"weight": "w"}, {"label": "neutral"}, 'column "w": does not exist'),
    ],
)
def test_bad_cells_have_an_address_and_a_reason(options, values, message):
    labels = ["negative", "neutral", "positive"]
    schema = {"labels": labels, "counts": {}, "weights": dict.fromkeys(labels, 1.0)}
    with pytest.raises(DataError, match=rf"^data/train.csv:1042: .*{message}"):
        encoded(task(**options), [row(1042, **values)], schema)


@pytest.mark.parametrize("target", ["class", "multilabel", "regression"])
def test_too_little_to_learn_is_an_error(target):
    with pytest.raises(DataError, match="no training rows"):
        task(target=target).fit([])


def test_one_class_cannot_be_learned():
    with pytest.raises(DataError, match='column "label": the training rows have one label'):
        task().fit([row(label="a")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": ["a"]}, "two"),
        ({"text": ["a", "a"]}, "two different columns"),
        ({"text": 3}, "must be a column, or a list of two"),
        ({"label_smoothing": 1.0}, "at least 0 and below 1"),
        ({"label_smoothing": 0.1, "target": "regression"}, "target: class only"),
        ({"class_weights": "balanced", "target": "multilabel"}, "target: class only"),
        ({"class_weights": "even"}, "none, balanced or a mapping"),
        ({"class_weights": {"a": -1}}, 'weight of "a" must be a number ≥ 0'),
        ({"class_weights": {"a": True}}, 'weight of "a" must be a number ≥ 0'),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        SequenceConfig(**options)


def test_options_survive_json():
    options = SequenceConfig(text=["a", "b"], class_weights={"x": 2})
    assert SequenceConfig(**json.loads(options.model_dump_json())) == options


def test_predictions_give_back_the_labels():
    def decoded(target, logits, labels=("no", "yes")):
        schema = {"labels": list(labels), "counts": {}}
        batch = collated(task(target=target), [row()], schema, "predict")
        return codec(task(target=target), schema=schema).decode({"logits": logits}, batch)

    logits = np.array([[0.0, np.log(3)]], np.float32)
    [one] = decoded("class", logits)
    assert (one.label, one.score) == ("yes", pytest.approx(0.75))
    assert one.scores == {"no": pytest.approx(0.25), "yes": pytest.approx(0.75)}
    assert one.row() == {"label": "yes", "score": one.score}
    [several] = decoded("multilabel", logits)
    assert (several.labels, several.scores) == (["no", "yes"], [0.5, pytest.approx(0.75)])
    assert several.probabilities == {"no": 0.5, "yes": pytest.approx(0.75)}
    [number] = decoded("regression", logits[:, 1:], [])
    assert number.value == pytest.approx(np.log(3))


@pytest.mark.parametrize(
    ("target", "cell", "gold"),
    [
        ("class", "yes", {"label": "yes"}),
        ("multilabel", ["yes", "no"], {"labels": ["no", "yes"]}),
        ("regression", 1.5, {"value": 1.5}),
    ],
)
def test_targets_are_told_as_a_prediction_would(target, cell, gold):
    of, rows = task(target=target), [row(label=cell)]
    schema = {
        "labels": ["no", "yes"],
        "counts": {"no": 1, "yes": 1},
        "weights": {"no": 1, "yes": 1},
    }
    [found] = codec(of, schema=schema).gold(collated(of, rows, schema))
    assert vars(found) == gold


def test_a_file_separated_by_something_else_is_told_from_a_misspelt_column():
    odd = Row({"text;label": "good;track"}, "data/train.csv:2")
    with pytest.raises(DataError, match=r"the only column is 'text;label': data.delimiter says"):
        task().texts(odd, targets=False)
