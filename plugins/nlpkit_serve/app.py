"""The application: one question, health and metrics. What is refused is an object with `error`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from nlpkit.bundle.predict import fields
from nlpkit.contracts import Row
from nlpkit.errors import DataError, InputError, RunError
from nlpkit.plugin.imports import describe
from nlpkit_serve.batching import Batcher, FullError
from nlpkit_serve.metrics import Metrics
from nlpkit_serve.question import read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Prediction

BODY = 1 << 20
"""Bytes of a request's body, at most."""

_RETRY = {"Retry-After": "1"}
_CLOSE = {"Connection": "close"}
_PLAIN = {"Accept-Encoding": "identity"}
_GZIP = b"\x1f\x8b"
_LEFT = 499  # nobody reads it; nginx counts such requests under this number
_THROWN_AWAY = 16 * BODY  # read all the same: many clients listen only when they have sent all


class Service:
    """Answers requests with one model.

    Args:
        model: What predicts.
        batch_size: Texts that go through the model together, at most.
        note: Is told, in a line, what fails.
    """

    def __init__(self, model: Model, *, batch_size: int, note: Callable[[str], None]) -> None:
        self._columns, self._words = model.columns, model.task.words
        self._ranked = model.codec.ranked
        self._note = note
        self._metrics = Metrics()
        self._batcher = Batcher(model, self._metrics, batch_size=batch_size, note=note)

    def application(self) -> Starlette:
        """The ASGI application."""
        application = Starlette(
            routes=[
                Route("/predict", self._predict, methods=["POST"]),
                Route("/healthz", self._health),
                Route("/metrics", self._measured),
            ],
            exception_handlers={HTTPException: self._refuse, Exception: self._fail},
        )
        application.router.redirect_slashes = False
        return application

    async def _predict(self, request: Request) -> Response:
        body = await _body(request)
        with self._metrics.seconds.time():
            question = read(body, self._columns, words=self._words)
            rows = question.rows
            outcomes = await self._outcomes(request, rows) if rows else []
            first = outcomes[0] if question.single else None
            if isinstance(first, DataError):
                raise HTTPException(422, str(first))
            lines = [_line(outcome, question.top_k, self._ranked) for outcome in outcomes]
            answer = _json({"predictions": lines})
        self._metrics.texts.inc(len(lines))
        self._metrics.requests.labels(200).inc()
        return answer

    async def _outcomes(
        self, request: Request, rows: Sequence[Row | DataError]
    ) -> Sequence[Prediction | DataError]:
        """What the batcher says, which is asked for as long as the client listens."""
        asked = asyncio.create_task(self._batcher.outcomes(rows))
        left = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait((asked, left), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise HTTPException(_LEFT, "the client has left")
            return asked.result()
        except FullError:
            raise HTTPException(503, "too many texts wait already; try again", _RETRY) from None
        except RunError:
            raise HTTPException(500, "the model failed; the service has logged how") from None
        finally:
            asked.cancel()
            left.cancel()

    async def _health(self, request: Request) -> Response:
        """Where the model has failed it is asked again: it may be that it fails on one text."""
        if self._batcher.failed:
            try:
                await self._outcomes(request, [Row(dict.fromkeys(self._columns, "text"), "")])
            except HTTPException as error:
                raise HTTPException(503, error.detail) from None
        return _json({"status": "ok"})

    async def _measured(self, _request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def _refuse(self, _request: Request, error: Any) -> Response:
        status, reason = error.status_code, error.detail
        if status in (404, 405):  # what Starlette says
            reason = f"{reason}: there are POST /predict, GET /healthz and GET /metrics"
        self._metrics.requests.labels(status).inc()
        return _json({"error": reason}, status, error.headers)

    async def _fail(self, request: Request, error: Exception) -> Response:
        self._note(f"error: a request failed: {describe(error)}")
        return await self._refuse(
            request, HTTPException(500, "the service failed; it has logged how")
        )


async def _body(request: Request) -> bytes:
    """The body, if it is not compressed and not too large. Raises HTTPException."""
    too_large = HTTPException(413, f"the body is larger than {BODY} bytes", _CLOSE)
    if int(request.headers.get("content-length", "0")) > BODY and "expect" in request.headers:
        raise too_large  # the client asked before it sends
    body, size = bytearray(), 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= BODY:
                body += chunk
            elif size > _THROWN_AWAY:
                raise too_large
    except ClientDisconnect:  # or its time was over; nobody reads this
        raise HTTPException(408, "the request did not arrive whole") from None
    if size > BODY:
        raise too_large
    coding = request.headers.get("content-encoding", "").strip().lower() or "identity"
    if coding == "identity" and body.startswith(_GZIP):
        coding = "gzip"
    if coding != "identity":
        raise HTTPException(415, f"the body is compressed ({coding}); send it as it is", _PLAIN)
    return bytes(body)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _line(outcome: Prediction | DataError, top_k: int | None, ranked: str) -> dict[str, Any]:
    """A prediction as `nlpkit predict` writes it, without the text."""
    if isinstance(outcome, DataError):
        return {"error": str(outcome)}
    try:
        return fields(outcome, top_k, ranked)
    except InputError as error:
        raise HTTPException(400, str(error)) from None


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # Half a surrogate pair, which a client may have sent, is escaped again.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")
    return Response(text, status, headers, "application/json")
