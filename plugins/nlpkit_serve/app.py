"""The application: one question, health and metrics. What is refused is an object with `error`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from nlpkit.bundle.fields import fields
from nlpkit.contracts import Row
from nlpkit.engine.search import grown
from nlpkit.errors import DataError, RunError
from nlpkit.plugin.imports import describe
from nlpkit_serve.batching import Batcher, FullError
from nlpkit_serve.metrics import Metrics
from nlpkit_serve.question import Question, read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Prediction

BODY = 1 << 20
"""Bytes of a request's body, at most."""

_RETRY = {"Retry-After": "1"}
_CLOSE = {"Connection": "close"}
_FRESH = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx passes each piece on
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
        self._model, self._note = model, note
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
            question = read(body, self._model)
            if question.stream:
                return await self._streamed(request, question)
            outcomes = await self._outcomes(request, question) if question.rows else []
            lines = [self._line(outcome, question) for outcome in outcomes]
            answer = _json({"predictions": lines})
        self._count(len(lines))
        return answer

    async def _outcomes(
        self, request: Request, question: Question, told: Callable[[str], None] | None = None
    ) -> Sequence[Prediction | DataError]:
        """What the batcher says, which is asked for as long as the client listens."""
        asked = asyncio.create_task(
            self._batcher.outcomes(question.rows, generate=question.generate, told=told)
        )
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

    async def _streamed(self, request: Request, question: Question) -> Response:
        """Server-sent events (WHATWG HTML, 9.2): what is sure of a text, then the prediction.

        What goes wrong before the first of them is a status; and until then a client that leaves
        is noticed, though it had closed its half of the connection.
        """
        text, grew = "", asyncio.Event()

        def told(so_far: str) -> None:
            nonlocal text  # the last one alone: who reads slowly gets longer pieces
            text = so_far
            grew.set()

        asked = asyncio.create_task(self._outcomes(request, question, told))
        asked.add_done_callback(lambda _: grew.set())
        try:
            while not (text or asked.done()):
                grew.clear()
                await grew.wait()
            if not text:
                self._line(asked.result()[0], question)
        except BaseException:
            asked.cancel()
            raise

        async def events() -> AsyncIterator[bytes]:
            shown = ""
            try:
                while (piece := grown(shown, text)) or not asked.done():
                    if piece:
                        shown += piece
                        yield _event({"piece": piece})
                    else:
                        grew.clear()
                        await grew.wait()
                (outcome,) = asked.result()
                yield _event({"prediction": self._line(outcome, question)})
                self._count(1)
            except HTTPException as error:
                self._metrics.requests.labels(error.status_code).inc()
                yield _event({"error": error.detail})
            except asyncio.CancelledError:
                self._metrics.requests.labels(_LEFT).inc()
                raise
            finally:
                asked.cancel()

        return StreamingResponse(events(), media_type="text/event-stream", headers=_FRESH)

    def _line(self, outcome: Prediction | DataError, question: Question) -> dict[str, Any]:
        """A prediction as `nlpkit predict` writes it, without the text. Raises HTTPException."""
        if not isinstance(outcome, DataError):
            return fields(outcome, question.top_k, self._model.codec.ranked)
        if question.single:
            raise HTTPException(422, str(outcome))
        return {"error": str(outcome)}

    def _count(self, texts: int) -> None:
        self._metrics.texts.inc(texts)
        self._metrics.requests.labels(200).inc()

    async def _health(self, request: Request) -> Response:
        """Where the model has failed it is asked again: it may be that it fails on one text."""
        if self._batcher.failed:
            columns, generate = self._model.columns, {"max_tokens": 1} if self._model.writes else {}
            row = Row(dict.fromkeys(columns, "text"), "")
            try:
                await self._outcomes(request, Question([row], generate=generate))
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


def _event(value: object) -> bytes:
    return b"data: " + _bytes(value) + b"\n\n"


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_bytes(value), status, headers, "application/json")


def _bytes(value: object) -> bytes:
    # Half a surrogate pair, which a client may have sent, is escaped again.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")
