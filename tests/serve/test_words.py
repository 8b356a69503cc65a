"""Texts as lists of their words, where the task takes words."""

from __future__ import annotations

import asyncio
import json

import pytest

import nlpkit
from nlpkit.contracts import Row
from nlpkit_serve.app import Service
from nlpkit_serve.question import read
from tests.bundle.words import train
from tests.serve.serving import taking


def row(text, *, words=False):
    """What becomes of a text that is asked for."""
    (found,) = read(json.dumps({"text": text}).encode(), taking("tokens", words=words)).rows
    return found


@pytest.mark.parametrize("text", [["EU", "rejects"], "EU rejects", [], [""]])
def test_words_and_texts_are_taken_as_they_are(text):
    assert row(text, words=True) == Row({"tokens": text}, "text")


@pytest.mark.parametrize("text", [["EU", None], ["EU", 5], [["EU"]], None, 5, {"tokens": ["EU"]}])
def test_what_is_neither_is_told_so(text):
    assert str(row(text, words=True)) == "text: is no text and no list of words"


def test_other_tasks_take_no_lists():
    assert str(row(["EU", "rejects"])) == "text: is no text"


def test_words_have_limits_as_texts_have():
    assert isinstance(row(["ab"] * 5_000, words=True), Row)
    assert str(row([""] * 5_001, words=True)) == "text: has 5001 words; at most 5000 are taken"
    message = "text: has 10002 characters; at most 10000 are taken"
    assert str(row(["abc"] * 3334, words=True)) == message


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a task that takes words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return train(tmp_path_factory.mktemp("runs") / "words")


def asked(model, question):
    """Status and answer of POST /predict, without a network."""
    application = Service(model, batch_size=4, note=pytest.fail).application()
    body = {"type": "http.request", "body": json.dumps(question).encode(), "more_body": False}
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    sent = []

    async def ask():
        coming = asyncio.Queue()
        coming.put_nowait(body)

        async def send(message):
            sent.append(message)

        await application(scope, coming.get, send)

    asyncio.run(ask())
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_words_are_answered_as_the_model_predicts_them(run):
    model = nlpkit.load(run)
    texts = [["Rome", "calls", "Peter"], "Rome calls Peter", ["EU"]]
    status, answer = asked(model, {"texts": [*texts, [], ["EU", None]]})
    *good, empty, bad = answer["predictions"]
    assert status == 200
    assert good == [vars(each) for each in model.predict(texts)]
    assert [entity["text"] for entity in good[0]["entities"]] == ["Rome", "Peter"]
    assert empty == {"error": 'texts[3]: column "tokens": the list of words is empty'}
    assert bad == {"error": "texts[4]: is no text and no list of words"}
    assert asked(model, {"text": []}) == (
        422,
        {"error": 'text: column "tokens": the list of words is empty'},
    )
