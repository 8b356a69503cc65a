"""The task `token` in numpy: what is in a row, examples, batches, predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nlpkit.errors import DataError
from nlpkit.testing import check_task
from nlpkit_tasks.token.config import TokenConfig
from nlpkit_tasks.token.objective import TokenObjective
from nlpkit_tasks.token.task import TokenTask
from tests.tasks.tokens import KINDS, codec_of, examples, right_logits, row, tokenizer

WORDS = ["Peter", "Blackburn", "rejects", "EU", "lamb", "."]
TAGS = ["B-per", "I-per", "O", "B-org", "O", "O"]
TEXT = "Peter Blackburn 住在北京市, not in New-York!"
SPANS = [
    {"start": 0, "end": 15, "label": "per"},
    {"start": 18, "end": 21, "label": "loc"},
    {"start": 30, "end": 38, "label": "loc"},
]
ROWS = [row(WORDS, TAGS), row(TEXT, SPANS), row("EU lamb", [])]


def task(**options) -> TokenTask:
    return TokenTask(TokenConfig(**options))


def tags_of(*rows) -> list[list[str]]:
    """The gold tags of rows, by word."""
    codec, encoder = codec_of([*ROWS, *rows], "wordpiece", 512)
    names = ["O", *(f"{sign}-{label}" for label in codec.labels for sign in "BI")]
    return [[names[tag] for tag in each["tags"]] for each in examples(encoder, rows, "evaluate")]


def said(problem: str, *rows, also=ROWS) -> None:
    with pytest.raises(DataError) as error:
        codec_of([*also, *rows], "wordpiece", 512)
    assert str(error.value).startswith(f"data/train.jsonl:2: {problem}")


def test_the_schema_has_types_and_the_rows_of_each():
    schema = task().fit(ROWS)
    assert schema == {
        "labels": ["loc", "org", "per"],
        "counts": {"loc": 1, "org": 1, "per": 2},
        "scheme": "BIO",
    }
    assert [task().stratum(each) for each in ROWS] == ["per", "per", ""]


@pytest.mark.parametrize(
    "tags",
    ["I-per I-per O I-org O O", "B-per E-per O S-org O O", "I-per I-per O B-org O O"],
)
def test_every_scheme_becomes_bio(tags):
    assert tags_of(row(WORDS, tags.split())) == [TAGS]


def test_tags_and_words_may_stand_in_cells_of_text():
    assert (
        tags_of(row(json.dumps(WORDS), json.dumps(TAGS)), row(str(WORDS), str(TAGS))) == [TAGS] * 2
    )
    assert tags_of(row("EU lamb", '[{"start": 0, "end": 2, "label": "org"}]')) == [["B-org", "O"]]


@pytest.mark.parametrize("nothing", [[], None, "", float("nan")])
def test_a_text_without_spans_has_no_entities(nothing):
    assert tags_of(row("EU lamb", nothing)) == [["O", "O"]]


def test_spans_become_tags_of_words():
    signs = ["B-per", "I-per", "O", "O", "B-loc", "I-loc", "I-loc", "O", "O", "O"]
    assert tags_of(row(TEXT, SPANS)) == [[*signs, "B-loc", "I-loc", "I-loc", "O"]]
    assert tags_of(row("EU lamb", ["B-org", "O"])) == [["B-org", "O"]]


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        (TAGS[:4], 'column "label": has 4 tags, and column "text" 6 words'),
        ([], 'column "label": has 0 tags, and column "text" 6 words'),
        (["per", *TAGS[1:]], 'column "label": "per" is no tag'),
        ([["p"]], 'column "label": "[\'p\']" is no tag: O, or B-, I-, E- or S- and a type (write'),
        (["B-", *TAGS[1:]], 'column "label": "B-" is no tag'),
        ([1, *TAGS[1:]], 'column "label": "1" is no tag: O, or B-, I-, E- or S- and a type (if'),
        ("B-per", 'column "label": "B-per" is neither a list of tags nor of spans'),
    ],
)
def test_bad_tags_of_words_are_said_with_their_address(label, problem):
    said(problem, row(WORDS, label))


@pytest.mark.parametrize(
    ("span", "problem"),
    [
        ((0, 5), "is in two spans"),
        ((0, 99), "is empty, or not inside the 7 characters"),
        ((3, 3), "is empty, or not inside"),
        ((2, 3), "holds no word"),
        (("0", "2"), r"has no whole numbers as start and end \(write "),
    ],
)
def test_bad_spans_are_said_with_their_address(span, problem):
    one, other = ({"start": at[0], "end": at[1], "label": "org"} for at in (span, (3, 7)))
    with pytest.raises(DataError, match=problem) as error:
        task().stratum(row("EU lamb", [one, other]))
    assert error.value.address == "data/train.jsonl:2"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ([], 'column "text": the list of words is empty'),
        ("", 'column "text": the text is empty'),
        (" \u200b", 'column "text": the text is empty'),
        (["EU", 3], 'column "text": "3" is in the list of words, and no text'),
        ("a\ud800", 'column "text": holds half a surrogate pair'),
    ],
)
def test_rows_without_words_are_said_with_their_address(text, problem):
    said(problem, row(text, []))


def test_a_label_that_training_lacks_is_said_with_what_was_meant():
    _, encoder = codec_of(ROWS, "wordpiece", 512)
    with pytest.raises(DataError, match='"org2" is not one of the 3 labels; did you mean "org"'):
        examples(encoder, [row("EU", ["B-org2"])], "evaluate")


def test_rows_without_entities_teach_nothing():
    said_of = pytest.raises(DataError, match="the training rows have no entities")
    with said_of:
        task().fit([row("EU lamb", [])])


@pytest.mark.parametrize("long_text", ["window", "truncate"])
@pytest.mark.parametrize("kind", ["wordpiece", "char"])
def test_the_task_keeps_its_contract(kind, long_text):
    options = TokenConfig(long_text=long_text)
    codec, _ = check_task(
        TokenTask(options),
        ROWS,
        objective=lambda schema: TokenObjective(options, schema),
        tokenizer=tokenizer(kind),
    )
    assert codec.head.level == "token"


@pytest.mark.parametrize("length", [16, 512])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_knows_every_target_predicts_the_gold(kind, length):
    codec, encoder = codec_of(ROWS, kind, length)
    found = examples(encoder, ROWS, "evaluate")
    batch = codec.collate(found, [0] * len(found))
    assert (batch.rows is None) == (length == 512)
    logits = right_logits(batch, codec.head.size)
    predicted = [each.entities for each in codec.decode({"logits": logits}, batch)]
    for row_ in predicted:
        for each in row_:
            assert each.pop("score") == pytest.approx(1, abs=1e-6)
    assert predicted == [each.entities for each in codec.gold(batch)]
    assert predicted[0] == [
        {"text": "Peter Blackburn", "label": "per", "start": 0, "end": 2},
        {"text": "EU", "label": "org", "start": 3, "end": 4},
    ]
    assert predicted[1] == [{"text": TEXT[s["start"] : s["end"]], **s} for s in SPANS]
    (metric,) = codec.metrics()
    metric.update(logits, batch)
    assert set(metric.compute(metric.state).values()) == {1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_each_word_of_a_long_text_counts_once(kind):
    words, tags = WORDS * 500, TAGS * 500
    codec, encoder = codec_of([row(words, tags)], kind, 64)
    (example,) = examples(encoder, [row(words, tags)], "train")
    assert example.keys() == {"input_ids", "token_type_ids", "windows", "labels"}
    batch = codec.collate([example], [0])
    assert batch.count == len(words) == (batch.targets["labels"] >= 0).sum()
    assert len(batch.inputs["input_ids"]) == batch.rows.sum() == len(codec.lengths(example))
    counts = np.bincount(batch.targets["labels"][batch.targets["labels"] >= 0])
    assert counts.tolist() == [1500, 500, 0, 500, 500]


def test_an_end_that_is_cut_off_is_predicted_as_o():
    codec, encoder = codec_of([row(WORDS * 9, TAGS * 9)], "char", 16, long_text="truncate")
    (example,) = examples(encoder, [row(WORDS * 9, TAGS * 9)], "evaluate")
    assert len(example["tags"]) == 54
    assert (example["token"] >= 0).sum() == 2
    batch = codec.collate([example], [0])
    assert batch.count == 2
    (metric,) = codec.metrics()
    metric.update(right_logits(batch, codec.head.size), batch)
    values = metric.compute(metric.state)
    assert (values["precision"], values["recall"]) == (1.0, 1 / 18)


@pytest.mark.parametrize("words", [["\u200b"], ["  ", "\u00ad"], [""]])
def test_words_of_nothing_are_predicted_as_o(words):
    codec, encoder = codec_of(ROWS, "wordpiece", 64)
    (example,) = examples(encoder, [row(words, ["B-org"] * len(words))], "evaluate")
    batch = codec.collate([example], [0])
    assert batch.count == 0
    logits = np.full((1, 2, codec.head.size), 5.0) + np.arange(codec.head.size)
    (found,) = codec.decode({"logits": logits}, batch)
    assert found.entities == []


def test_a_token_that_covers_words_gives_all_of_them_its_tag():
    own = row("住在 x", [{"start": 0, "end": 2, "label": "loc"}])
    codec, encoder = codec_of([own], "wordpiece", 64)
    (example,) = examples(encoder, [own], "predict")
    shared = {**example, "token": np.array([1, 1, 3], np.int32)}
    batch = codec.collate([shared], [0])
    logits = np.zeros((1, 5, 3))
    logits[0, 1] = [0, 2, 1]  # B-loc
    (found,) = codec.decode({"logits": logits}, batch)
    score = np.exp(2) / np.exp([0, 2, 1]).sum()
    assert found.entities == [
        {"text": "住在", "label": "loc", "start": 0, "end": 2, "score": pytest.approx(score)}
    ]
