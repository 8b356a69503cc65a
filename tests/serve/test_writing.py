"""Texts that are written: as the model writes them, bounded, and shown while they grow."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

import nlpkit
from nlpkit.bundle.predict import Model
from nlpkit.contracts import Prediction, Row
from nlpkit.errors import DataError, InputError
from nlpkit_serve import batching
from nlpkit_serve.app import Service
from nlpkit_serve.batching import Batcher
from nlpkit_serve.metrics import Metrics
from tests.serve.serving import JSON, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPTS = ["my card", "w", "money 12"]
SHORT = {"max_tokens": 12}
LONG = {"max_tokens": 300}
BOUNDED = "import nlpkit_serve.question as q; q.TOKENS, q.BEAMS, q.STOPS = 20, 4, 2"


@pytest.fixture(scope="module")
def model(writer) -> nlpkit.Model:
    return nlpkit.load(writer)


@pytest.fixture(scope="module")
def service(writer, folder) -> Iterator[Server]:
    with Server(writer, folder / "writing.log", limits=BOUNDED) as server:
        yield server


@contextmanager
def events(server, question) -> Iterator[tuple[http.client.HTTPResponse, Iterator[dict]]]:
    """The answer to a question, and its events as they come."""
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    connection.request("POST", "/predict", json.dumps({**question, "stream": True}), JSON)
    response = connection.getresponse()
    lines = (line.strip() for line in response)
    yield response, (json.loads(line.removeprefix(b"data: ")) for line in lines if line)
    connection.close()


def said(predictions):
    return [{**each.row(), "score": pytest.approx(each.score, abs=1e-5)} for each in predictions]


@pytest.mark.parametrize(
    "generate", [SHORT, {**SHORT, "method": "beam"}, {**SHORT, "method": "sample", "seed": 5}]
)
def test_it_writes_what_the_model_writes(service, model, generate):
    status, answer = service.ask({"texts": PROMPTS, "generate": generate})
    assert status == 200
    assert answer["predictions"] == said(model.predict(PROMPTS, generate=generate))


@pytest.mark.parametrize("generate", [SHORT, {**SHORT, "method": "beam"}, {"stop": ["1"]}])
def test_pieces_are_the_prediction_that_follows_them(service, model, generate):
    with events(service, {"text": "my card", "generate": generate}) as (response, found):
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        *pieces, last = found
    generate = {"max_tokens": 20, **generate}  # 20 is the most that is asked for nobody
    (expected,) = model.predict(["my card"], generate=generate)
    assert [last["prediction"]] == said([expected])
    assert all([*each] == ["piece"] and each["piece"] for each in pieces)
    assert "".join(each["piece"] for each in pieces) == expected.continuation
    told = [*model.stream("my card", generate=generate)]
    assert "".join(told) == expected.continuation
    assert len(told) > 3 or "method" in generate or not expected.continuation


def test_a_stream_of_what_cannot_be_continued_is_refused(service):
    with events(service, {"text": "a" * 500}) as (response, found):
        assert response.status == 422
        assert "together more than" in str(*found)
    with events(service, {"text": ""}) as (response, _):
        assert response.status == 422


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"text": "a", "generate": {"max_tokens": 21}}, "at most 20 max_tokens, 4 beams and 2"),
        ({"text": "a", "generate": {"method": "beam", "beams": 5}}, "4 beams"),
        ({"text": "a", "generate": {"stop": ["a", "b", "c"]}}, "2 words to stop at"),
        ({"text": "a", "generate": {"max_token": 2}}, 'did you mean "max_tokens"?'),
        ({"text": "a", "generate": {"temperature": -1}}, "temperature must be"),
        ({"text": "a", "generate": 5}, '"generate" must be an object'),
        ({"text": "a", "top_k": 2}, "predicts no labels with scores"),
        ({"text": "a", "stream": 1}, '"stream" is true or false'),
        ({"texts": ["a"], "stream": True}, 'for one "text" that is written'),
    ],
)
def test_what_cannot_be_asked_is_said(service, question, message):
    status, answer = service.ask(question)
    assert status == 400
    assert message in answer["error"]


def test_a_task_that_writes_nothing_says_so(server):
    for more in ({"generate": SHORT}, {"stream": True}):
        status, answer = server.ask({"text": "a", **more})
        assert status == 400
        assert "writ" in answer["error"]
    assert server.ask({"text": "a", "generate": {}, "stream": False})[0] == 200


def test_requests_that_ask_in_different_ways_get_each_its_own(service, model):
    asked = [{"max_tokens": each} for each in (3, 9, 3, 9, 5)]
    connections = []
    for generate in asked:
        connection = http.client.HTTPConnection(*service.address, timeout=30)
        connection.request("POST", "/predict", json.dumps({"text": "w", "generate": generate}))
        connections.append(connection)
    for generate, connection in zip(asked, connections, strict=True):
        answer = json.loads(connection.getresponse().read())
        assert answer["predictions"] == said(model.predict(["w"], generate=generate))
        connection.close()


def test_a_text_whose_time_is_over_ends_where_it_is(model, monkeypatch):
    (whole,) = model.predict(["my card"], generate=LONG)
    assert len(whole.continuation) == 300
    monkeypatch.setattr(batching, "SECONDS", 0.02)
    own = Batcher(model, Metrics(), batch_size=2, note=pytest.fail)
    (found,) = asyncio.run(own.outcomes([Row({"text": "my card"}, "text")], generate=LONG))
    assert not found.complete
    assert whole.continuation.startswith(found.continuation)
    assert 0 < len(found.continuation) < 300


def test_the_text_of_a_client_that_has_left_is_written_no_further(writer):
    left = []

    class Told(Model):
        """Notes which texts ended before their time."""

        def writing(self, texts, **options):
            for number, said, outcome in super().writing(texts, **options):
                if outcome:
                    left.append(len(outcome.continuation))
                yield number, said, outcome

    model = nlpkit.load(writer)
    model.__class__ = Told

    async def leave() -> None:
        own = Batcher(model, Metrics(), batch_size=2, note=pytest.fail)
        grown = asyncio.Event()
        rows = [Row({"text": "my card"}, "text")]
        tell = {"told": lambda text: grown.set(), "generate": LONG}
        gone = asyncio.create_task(own.outcomes(rows, **tell))
        await grown.wait()
        gone.cancel()
        assert len(await own.outcomes(rows, generate=SHORT)) == 1

    asyncio.run(leave())
    first, second = left
    assert first < 300
    assert second == 12


def streamed(model, monkeypatch, said, reads=lambda: asyncio.sleep(0)):
    """The status and the events of a stream whose model says this, and then writes it or fails."""

    def writing(texts, **options):
        for text in said:
            if text is None:
                raise MemoryError("there is none left")
            yield 0, partial(str, text), None
        yield 0, partial(str, text), Prediction(continuation=text, score=-1.0, complete=True)

    monkeypatch.setattr(model, "writing", writing)
    parts, sent = [{"type": "http.request", "body": b'{"text": "w", "stream": true}'}], []

    async def receive():
        return parts.pop() if parts else await asyncio.Future()

    async def send(message):
        sent.append(message)
        await reads()

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    application = Service(model, batch_size=2, note=lambda line: None).application()
    asyncio.run(application(scope, receive, send))
    bodies = filter(None, (each.get("body", b"").strip() for each in sent))
    return sent[0]["status"], [json.loads(each.removeprefix(b"data: ")) for each in bodies]


def test_what_fails_before_the_first_piece_is_a_status(model, monkeypatch):
    status, (error,) = streamed(model, monkeypatch, ["", "", None])
    assert status == 500
    status, (piece, end) = streamed(model, monkeypatch, ["", "a", None])
    assert (status, piece, end) == (200, {"piece": "a"}, error)


def test_who_reads_slowly_gets_longer_pieces(model, monkeypatch):
    whole, written = "a" * 50, threading.Event()

    def growing():
        yield from (whole[:size] for size in range(51))
        written.set()

    _, (*pieces, end) = streamed(
        model, monkeypatch, growing(), lambda: asyncio.to_thread(written.wait)
    )
    assert len(pieces) < 4
    assert "".join(each["piece"] for each in pieces) == end["prediction"]["continuation"] == whole


def test_pieces_in_python(model):
    pieces = model.stream("my card", generate=SHORT)
    assert next(pieces)
    with pytest.raises(DataError, match="text 0"):
        next(model.stream(""))
    with pytest.raises(InputError, match="max_tokens"):
        next(model.stream("my card", generate={"max_tokens": 0}))
