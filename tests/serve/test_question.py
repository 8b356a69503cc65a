"""Pairs, where the task takes pairs."""

from __future__ import annotations

import asyncio
import json

import pytest

from nlpkit.contracts import Row
from nlpkit_serve.batching import Batcher
from nlpkit_serve.metrics import Metrics
from nlpkit_serve.question import read
from tests.serve.serving import taking

MODEL = taking("first", "second")
PAIR = ["my card", "where is it"]


def test_a_pair_is_one_question():
    question = read(json.dumps({"text": PAIR}).encode(), MODEL)
    assert question.rows == [Row({"first": PAIR[0], "second": PAIR[1]}, "text")]


@pytest.mark.parametrize("text", ["one", ["one"], ["a", "b", "c"], ["a", 5], {"first": "a"}, 5])
def test_what_is_no_pair_is_told_so(text):
    (row,) = read(json.dumps({"texts": [text]}).encode(), MODEL).rows
    assert str(row) == "texts[0]: is no pair of texts (first and second)"


def test_the_characters_of_a_pair_count_together():
    (row,) = read(json.dumps({"texts": [["a" * 6000, "b" * 6000]]}).encode(), MODEL).rows
    assert str(row) == "texts[0]: has 12000 characters; at most 10000 are taken"


def test_pairs_are_predicted_as_the_model_does(pairs):
    question = read(json.dumps({"texts": [PAIR, PAIR[::-1], ["a", ""]]}).encode(), MODEL)
    own = Batcher(pairs, Metrics(), batch_size=4, note=pytest.fail)
    *good, bad = asyncio.run(own.outcomes(question.rows))
    expected = pairs.predict([tuple(PAIR), tuple(PAIR[::-1])])
    assert [each.label for each in good] == [each.label for each in expected]
    assert str(bad) == 'texts[2]: column "second": the text is empty'
