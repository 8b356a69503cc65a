"""GET /healthz says whether the model can be used now."""

from __future__ import annotations

import asyncio
import json

import pytest

from nlpkit_serve.app import Service
from tests.bundle.bundles import TEXTS


@pytest.fixture
def answers(model):
    """Asks a service of `model`: the status of each of these requests, and what it noted."""

    async def ask(application, text):
        path = "/predict" if text else "/healthz"
        parts = [{"type": "http.request", "body": json.dumps({"text": text}).encode()}]
        sent = []

        async def receive():
            return parts.pop() if parts else await asyncio.Future()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST" if text else "GET", "path": path, "headers": []}
        await application(scope, receive, send)
        return sent[0]["status"]

    async def ask_all(*texts):
        noted = []
        application = Service(model, batch_size=2, note=noted.append).application()
        return [await ask(application, text) for text in texts], len(noted)

    return lambda *texts: asyncio.run(ask_all(*texts))


HEALTH = None


def test_health_is_bad_while_the_model_fails_every_time_and_good_again(model, answers, monkeypatch):
    run, broken = model.engine.run, iter([False, True, True, True, False])

    def fail_in_the_middle(inputs):
        if next(broken):
            raise MemoryError("there is none left")
        return run(inputs)

    monkeypatch.setattr(model.engine, "run", fail_in_the_middle)
    asked = (TEXTS[0], HEALTH, TEXTS[0], HEALTH, HEALTH, HEALTH, HEALTH)
    assert answers(*asked) == ([200, 200, 500, 503, 503, 200, 200], 3)


def test_a_text_on_which_the_model_fails_does_not_make_health_bad(model, answers, monkeypatch):
    run, longest = model.engine.run, model.batch(["text"]).inputs["input_ids"].shape[1]

    def fail_on_long_texts(inputs):
        if inputs["input_ids"].shape[1] > longest:
            raise MemoryError("there is none left")
        return run(inputs)

    monkeypatch.setattr(model.engine, "run", fail_on_long_texts)
    assert answers(TEXTS[0], HEALTH, TEXTS[0], HEALTH)[0] == [500, 200, 500, 200]
