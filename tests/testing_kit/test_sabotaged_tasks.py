"""A task that breaks its contract in one way is refused, with the message for that way."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from nlpkit.contracts import Batch, Codec, HeadSpec, Part, Prediction, Row, Task, Windows, pad
from nlpkit.errors import DataError, PluginError
from nlpkit.testing import check_task

ROWS = [
    Row({"text": text, "tags": tags}, f"rows:{line}")
    for line, (text, tags) in enumerate(
        [("where is my card", "oooX"), ("refund", "X"), ("close my account today", "oXXo")]
    )
]
IN_WINDOWS = {"text": Part(long=Windows(), needs="ids")}


class Words(Task):
    """Scores for each token; texts that are long come in windows. It keeps its contract."""

    def __init__(self, codec=None):
        self.columns = {"text": ("text",)}
        self.codec_class = codec or WordsCodec

    def texts(self, row, *, targets):
        if not row.values["text"]:
            raise DataError(row.address, column="text", problem="has no text")
        return {"text": row.values["text"]}

    def fit(self, rows):
        return {"rows": sum(1 for _ in rows)}

    def codec(self, schema, vocabulary):
        return self.codec_class(schema, vocabulary)


class WordsCodec(Codec):
    head = HeadSpec(size=2, level="token")
    parts = IN_WINDOWS
    ranked = "scores"

    def encode(self, row, encodings, use):
        windows = [np.array(each.ids, np.int32) for each in encodings["text"]]
        example = {
            "input_ids": np.concatenate(windows),
            "windows": np.array([len(each) for each in windows], np.int32),
        }
        if use != "predict":
            example["tag"] = np.int64("X" in row.values["tags"])
        return example

    def lengths(self, example):
        return [(length,) for length in example["windows"].tolist()]

    def collate(self, examples, seeds):
        windows = [
            window
            for each in examples
            for window in np.split(each["input_ids"], np.cumsum(each["windows"])[:-1])
        ]
        mask = pad([np.ones(len(each), np.int64) for each in windows])
        known = "tag" in examples[0]
        return Batch(
            inputs={"input_ids": pad(windows).astype(np.int64), "attention_mask": mask},
            targets={"mask": mask, "tag": np.array([e["tag"] for e in examples])} if known else {},
            count=float(sum(len(example["input_ids"]) for example in examples)),
            rows=np.array([len(example["windows"]) for example in examples]),
            about={"tokens": [example["input_ids"] for example in examples]},
        )

    def decode(self, outputs, batch):
        starts = np.cumsum(batch.rows) - batch.rows
        return [
            Prediction(score=0.5, scores={"X": float(outputs["logits"][at, 0, 0])}) for at in starts
        ]

    def gold(self, batch):
        return [Prediction(tag=tag) for tag in batch.targets["tag"].tolist()]


class Objective:
    def total(self, logits, targets, rows):
        return (logits.sum(-1) * targets["mask"]).sum()

    def output(self, logits, targets, rows):
        return logits


def refused(task, objective=Objective):
    with pytest.raises(PluginError) as caught:
        check_task(task, ROWS, objective=lambda schema: objective())
    return str(caught.value)


def changed(**fields):
    """The codec with collate's batches changed: values, or functions of the batch."""

    class Changed(WordsCodec):
        def collate(self, examples, seeds):
            batch = super().collate(examples, seeds)
            made = {name: each(batch) if callable(each) else each for name, each in fields.items()}
            return replace(batch, **made)

    return Changed


def test_it_keeps_its_contract_unless_it_is_sabotaged():
    codec, batch = check_task(Words(), ROWS, objective=lambda schema: Objective())
    assert isinstance(codec, WordsCodec)
    assert batch.rows.tolist() == [2, 1, 3]


class Letters(Words):
    def __init__(self):
        super().__init__()
        self.columns = {"text": "text"}


class Misnamed(Words):
    def texts(self, row, *, targets):
        return {"sentence": row.values["text"]}


class Asking(Words):
    def texts(self, row, *, targets):
        if "tags" not in row.values:
            raise DataError(row.address, column="tags", problem="is missing")
        return super().texts(row, targets=targets)


class Numbers(Words):
    def texts(self, row, *, targets):
        return {"text": len(row.values["text"])}


class ArraySchema(Words):
    def fit(self, rows):
        return {"rows": np.int64(3)}


class Restless(Words):
    calls = itertools.count()

    def fit(self, rows):
        return {"call": next(self.calls)}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Letters, "`columns` must map each part to a list of columns: {'text': 'text'}"),
        (Misnamed, "texts without targets gives sentence, but `columns` names text"),
        (Asking, "texts without targets need more than the columns that prediction fills (rows:0"),
        (Numbers, "texts gives 16, which is no text"),
        (ArraySchema, "the schema is no plain JSON: "),
        (Restless, "the schema of the same rows differs from call to call"),
    ],
)
def test_what_is_wrong_with_a_task_is_named(task, message):
    assert refused(task()).startswith(f"task {task.__name__}: {message}")


class OtherParts(WordsCodec):
    def __init__(self, schema, vocabulary):
        super().__init__(schema, vocabulary)
        self.parts = {"source": Part()}


class OverNothing(WordsCodec):
    head = HeadSpec(size=2, level="token", over="masked")


class Refusing(WordsCodec):
    def encode(self, row, encodings, use):
        if use == "predict":
            raise DataError(row.address, column="tags", problem="is missing")
        return super().encode(row, encodings, use)


class OtherKeys(WordsCodec):
    def encode(self, row, encodings, use):
        more = {"long": np.int64(1)} if len(row.values["text"]) > 6 else {}
        return {**super().encode(row, encodings, use), **more}


class OtherTypes(WordsCodec):
    def encode(self, row, encodings, use):
        kind = np.int64 if len(row.values["text"]) > 6 else np.int32
        return {**super().encode(row, encodings, use), "long": kind(1)}


class Tables(WordsCodec):
    def encode(self, row, encodings, use):
        return {**super().encode(row, encodings, use), "table": np.zeros((2, 2))}


class Offsets(WordsCodec):
    def encode(self, row, encodings, use):
        end = encodings["text"][-1].offsets[-1][1]
        return {**super().encode(row, encodings, use), "end": np.int64(end)}


class Broken(WordsCodec):
    def encode(self, row, encodings, use):
        share = 1 // encodings["text"][-1].offsets[-1][1]
        return {**super().encode(row, encodings, use), "share": np.int64(share)}


class OneRow(WordsCodec):
    def lengths(self, example):
        return [(len(example["input_ids"]),)]


class OtherAxes(WordsCodec):
    inputs = MappingProxyType(dict.fromkeys(Codec.inputs, ("samples", "tokens")))


class Short(WordsCodec):
    def lengths(self, example):
        return [(length - 1,) for (length,) in super().lengths(example)]


class FewPredictions(WordsCodec):
    def decode(self, outputs, batch):
        return super().decode(outputs, batch)[:1]


class OnePerRow(WordsCodec):
    def decode(self, outputs, batch):
        return super().decode(outputs, replace(batch, rows=np.ones(batch.rows.sum(), np.int64)))


class ArrayFields(WordsCodec):
    def decode(self, outputs, batch):
        return [Prediction(score=np.float32(0.5), scores={}) for _ in batch.rows]


class Reserved(WordsCodec):
    def decode(self, outputs, batch):
        return [Prediction(text="a", scores={}) for _ in batch.rows]


class Unranked(WordsCodec):
    ranked = "probabilities"


class FewGold(WordsCodec):
    def gold(self, batch):
        return super().gold(batch)[1:]


class Targets(WordsCodec):
    def collate(self, examples, seeds):
        batch = super().collate(examples, seeds)
        return replace(batch, targets=batch.targets or {"tag": np.zeros(len(examples))})


Unnamed = changed(inputs=lambda batch: {**batch.inputs, "places": batch.inputs["input_ids"]})
Unequal = changed(
    inputs=lambda batch: {**batch.inputs, "attention_mask": batch.inputs["attention_mask"][:, 1:]}
)
Flat = changed(
    inputs=lambda batch: {**batch.inputs, "attention_mask": batch.inputs["attention_mask"][0]}
)
Neighbours = changed(
    inputs=lambda batch: {**batch.inputs, "input_ids": batch.inputs["input_ids"] + len(batch.rows)}
)
NeighbourTargets = changed(
    targets=lambda batch: {**batch.targets, "tag": np.full(len(batch.rows), len(batch.rows))}
)
NeighbourAbout = changed(
    about=lambda batch: {"tokens": [np.array([len(batch.rows)])] * len(batch.rows)}
)


class FewerAlways(WordsCodec):
    inputs = MappingProxyType({**WordsCodec.inputs, "places": ("rows", "tokens")})


class Fewer(FewerAlways):
    def collate(self, examples, seeds):
        batch = super().collate(examples, seeds)
        places = {"places": batch.inputs["attention_mask"]} if batch.targets else {}
        return replace(batch, inputs={**batch.inputs, **places})


class Stepping(Fewer):
    head = HeadSpec(size=2, level="token", over="places")

    def predict(self, engine, batch, settings):
        places = batch.inputs["attention_mask"][:, :1]
        return engine.run({**batch.inputs, "places": places})


def test_prediction_may_leave_inputs_to_the_steps_of_predict():
    check_task(Words(Stepping), ROWS, objective=lambda schema: Objective())


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (OtherParts, "texts gives text, but `parts` of the codec names source"),
        (OverNothing, 'head.over is "masked", which is none of the inputs input_ids, attention_'),
        (Refusing, 'a good row is refused (predict): rows:0: column "tags": is missing'),
        (OtherKeys, "examples need the same keys and dtypes in each row (train)"),
        (OtherTypes, "examples need the same keys and dtypes in each row (train)"),
        (Tables, "an example holds scalars and 1-D arrays alone (train)"),
        (Offsets, 'a part says needs="ids", but its examples depend on more than ids and type ids'),
        (
            Broken,
            'a part says needs="ids", but its examples depend on more than ids and type ids '
            "(PluginError: rows:0: task Words: ZeroDivisionError: ",
        ),
        (OneRow, "lengths of row 0: are of 1 rows, but collate makes 2"),
        (Short, "lengths of row 0: say (7,) tokens, but the inputs are of {'rows': 2, 'tokens': 8"),
        (OtherAxes, 'no input has the axis "rows": '),
        (changed(rows=None), "`rows` of a batch must be, as int64, how many rows of its inputs"),
        (
            changed(rows=lambda batch: np.ones(len(batch.rows), np.int64)),
            "`rows` of a batch must be, as int64, how many rows of its inputs each sample has: [2]",
        ),
        (
            changed(rows=lambda batch: batch.rows.astype(np.int32)),
            "`rows` of a batch must be, as int64, how many rows of its inputs each sample has: [2]",
        ),
        (
            changed(about={"tokens": [np.zeros(1)] * 4}),
            "`about` of a batch has 4 tokens for 1 samples",
        ),
        (Unnamed, "collate gives the inputs input_ids, attention_mask, places, but `inputs` of"),
        (Fewer, "predict gives no places"),
        (FewerAlways, "collate gives the inputs input_ids, attention_mask, but `inputs` of"),
        (Unequal, "the input attention_mask has the shape (6, 7), which does not fit its axes"),
        (Flat, "the input attention_mask has the shape (8,), which does not fit its axes"),
        (Neighbours, "inputs input_ids of row 0 depends on its neighbours"),
        (NeighbourTargets, "targets tag of row 0 depends on its neighbours"),
        (NeighbourAbout, "about tokens of row 0 depends on its neighbours"),
        (changed(count=1.0), "the count of a batch is not the sum of its samples' counts"),
        (Targets, "a batch for prediction has the targets tag"),
        (FewPredictions, "decode gives 1 predictions for 3 samples"),
        (OnePerRow, "decode gives 6 predictions for 3 samples"),
        (ArrayFields, "a field of a prediction is no plain JSON: "),
        (Reserved, "a prediction has the reserved field text"),
        (Unranked, '`ranked` is "probabilities", but no field of that name maps labels to values'),
        (FewGold, "gold gives 2 predictions for 3 samples"),
    ],
)
def test_what_is_wrong_with_a_codec_is_named(codec, message):
    assert refused(Words(codec)).startswith(f"task Words: {message}")


def test_a_codec_that_says_that_it_needs_words_may_look_at_them():
    class Honest(Offsets):
        parts = MappingProxyType({"text": Part(long=Windows())})

    check_task(Words(Honest), ROWS)


class Mean(Objective):
    def total(self, logits, targets, rows):
        return super().total(logits, targets, rows) / len(rows)


class Padded(Objective):
    def total(self, logits, targets, rows):
        return logits.sum()


@pytest.mark.parametrize("objective", [Mean, Padded])
def test_a_total_that_is_a_mean_or_that_padding_changes_is_refused(objective):
    assert refused(Words(), objective).endswith(
        "a total is a SUM over the samples, never a mean, and padding adds nothing"
    )
