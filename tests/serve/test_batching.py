"""Requests are joined into batches, and a large one does not keep the others waiting."""

from __future__ import annotations

import asyncio

import pytest

import nlpkit
from nlpkit.contracts import Row
from nlpkit_serve import batching
from nlpkit_serve.app import Service
from nlpkit_serve.batching import Batcher, FullError
from nlpkit_serve.metrics import Metrics
from tests.bundle.bundles import TEXTS, make_run


def rows(count: int, start: int = 0) -> list[Row]:
    return [Row({"text": TEXTS[(start + at) % len(TEXTS)]}, "") for at in range(count)]


def batcher(model, metrics=None, batch_size=2) -> Batcher:
    return Batcher(model, metrics or Metrics(), batch_size=batch_size, note=pytest.fail)


def test_a_large_request_lets_small_ones_pass(model):
    finished = []

    async def ask(own: Batcher, name: str, count: int) -> None:
        outcomes = await own.outcomes(rows(count))
        finished.append(name)
        expected = model.predict([row.values["text"] for row in rows(count)])
        assert [each.label for each in outcomes] == [each.label for each in expected]

    async def all_at_once() -> None:
        own = batcher(model)
        names = {"large": 200, "small": 1, "other": 3}
        await asyncio.gather(*(ask(own, name, count) for name, count in names.items()))

    asyncio.run(all_at_once())
    assert finished == ["small", "other", "large"]


def test_what_waits_goes_together(model):
    metrics = Metrics()

    async def all_at_once() -> None:
        own = batcher(model, metrics)
        await asyncio.gather(*(own.outcomes(rows(1, at)) for at in range(40)))

    asyncio.run(all_at_once())
    text = metrics.text().decode()
    assert "nlpkit_batch_texts_sum 40.0" in text
    assert "nlpkit_batch_texts_count 3.0" in text


def test_more_than_may_wait_is_refused_and_the_rest_answered(model, monkeypatch):
    monkeypatch.setattr(batching, "WAITING", 50)

    async def all_at_once() -> list[object]:
        own = batcher(model)
        asked = (own.outcomes(rows(count)) for count in (40, 11, 10))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = asyncio.run(all_at_once())
    assert (len(first), type(second), len(third)) == (40, FullError, 10)


def test_a_request_that_is_gone_is_not_computed(model):
    metrics = Metrics()

    async def leave() -> None:
        own = batcher(model, metrics)
        first = asyncio.create_task(own.outcomes(rows(16)))
        gone = asyncio.create_task(own.outcomes(rows(100)))
        await asyncio.sleep(0)
        gone.cancel()
        await first
        assert len(await own.outcomes(rows(2))) == 2

    asyncio.run(leave())
    assert "nlpkit_batch_texts_sum 18.0" in metrics.text().decode()


def test_two_services_in_a_process_count_on_their_own(model):
    for _ in range(2):
        assert Service(model, batch_size=4, note=pytest.fail).application().routes


def test_long_texts_are_answered_in_windows_as_by_predict(folder):
    windowed = nlpkit.load(make_run(folder / "windows", long_text="window"))
    texts = [" ".join(TEXTS[at:]) for at in range(len(TEXTS))]
    asked = [Row({"text": text}, "") for text in texts]
    assert windowed.batch(asked).rows.max() > 2

    async def ask() -> list[object]:
        own = batcher(windowed, batch_size=4)
        parts = await asyncio.gather(own.outcomes(asked[:3]), own.outcomes(asked[3:]))
        return [each for part in parts for each in part]

    for found, expected in zip(asyncio.run(ask()), windowed.predict(texts), strict=True):
        assert found.label == expected.label
        assert found.score == pytest.approx(expected.score, abs=1e-6)
