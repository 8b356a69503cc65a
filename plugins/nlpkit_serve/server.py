"""uvicorn, with what it lacks: time for a request to arrive, and refusals that are JSON."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nlpkit.errors import InputError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

CONNECTIONS = 800
"""Open connections at most; fewer where the process may not open so many files."""
ARRIVAL_SECONDS = 10
"""Time for a request, headers and body, to arrive whole."""
IDLE_SECONDS = 60
"""Time for which a connection is kept open without a request."""
GRACE_SECONDS = 25
"""Time for which a stopped server goes on answering; Kubernetes kills after 30."""
PROBE_SECONDS = 0.5
"""Time after which a client that sends no more is asked whether it is still there; and again."""
BACKLOG = 2048
"""Connections that wait in the kernel until they are taken."""

_TAKEN = 8  # connections at a turn of the loop: those that must be refused need files too
_FILES = 2 * CONNECTIONS
_OTHERS = 64  # files at least that are no connections
_FEWEST = 8  # connections that are worth a server: a proxy alone keeps some open
_SILENCE_SECONDS = 60


def run(application: Starlette, listener: socket.socket, note: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM, answers what has come by then, and raises the signal again.

    Args:
        application: The ASGI application.
        listener: A listening socket; it is closed at the end.
        note: Is told, in a line, that no connection can be taken.
    """
    config = uvicorn.Config(
        _in_origin_form(application),
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # the application says what fails
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_TAKEN,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    _Server(config, note).run(sockets=[listener])


def make_room() -> None:
    """Lets this process open files for all connections, or as many as the system allows it.

    Raises:
        InputError: That is too few to serve anybody.
    """
    with suppress(ImportError, OSError, ValueError):  # there is no such module on Windows
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(_FILES, hard)), hard))
    if _connections() < _FEWEST:
        raise InputError(
            f"this process may open too few files to serve, which needs {_OTHERS + _FEWEST} for "
            f"{_FEWEST} connections; allow it {_FILES} (ulimit -n)"
        )


def _connections() -> int:
    """Open connections at most: some files are for others, and for refusing."""
    try:
        import resource
    except ImportError:
        return CONNECTIONS
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(CONNECTIONS, files - max(_OTHERS, files // 5))


def _in_origin_form(application: Starlette) -> Callable[[Scope, Receive, Send], Any]:
    """The application, asked for /path also where a client, as to a proxy, says http://host/path.

    RFC 9112, section 3.2.2: a server must take both.
    """

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        path = re.sub("^https?://[^/]*", "", scope["path"], flags=re.IGNORECASE)
        await application({**scope, "path": path or "/"}, receive, send)

    return asked


class _Server(uvicorn.Server):
    """Says once a minute, in a line, that no connection can be taken; asyncio, each time in 20."""

    def __init__(self, config: uvicorn.Config, note: Callable[[str], None]) -> None:
        super().__init__(config)
        self._note, self._said = note, -float(_SILENCE_SECONDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens."""
        asyncio.get_running_loop().set_exception_handler(self._fail)
        await super().startup(sockets)
        for each in sockets or []:
            each.listen(BACKLOG)  # asyncio takes as many at a turn as it lets wait

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "socket.accept()" not in context["message"]:
            loop.default_exception_handler(context)
        elif time.monotonic() - self._said >= _SILENCE_SECONDS:
            self._said = time.monotonic()
            reason = context["exception"].strerror
            self._note(f"warning: no connection can be taken: {reason} (ulimit -n); they wait")


class Connection(H11Protocol):
    """Closes a connection that takes too long to bring a request, byte by byte or not at all.

    uvicorn waits for headers and bodies for ever: its only timer runs between two requests.
    """

    _deadline: asyncio.TimerHandle | None = None
    _ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses where there are too many already; else time begins to run."""
        super().connection_made(transport)
        if len(self.connections) > (most := _connections()):
            self._refuse(503, f"there are {most} connections already; try again")
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Time runs until the request is whole."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next request may have come with this one, but not the whole of it."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._watch()
        if self._ended and self.cycle.response_complete:
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that sends no more may still listen: it gets its answer, if it is there."""
        if self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.SEND_RESPONSE:
            self._refuse(400, "the request ended before its body was whole")
        self._ended = self.conn.their_state in (h11.DONE, h11.MUST_CLOSE)
        if self._ended and self.conn.their_http_version != b"1.0":  # that one knows no 100
            self.loop.call_later(PROBE_SECONDS, self._probe)
        return self._ended

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self._forget()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an answer nevertheless."""
        self._refuse(400, f"{msg} (HTTP/1.1, headers of 16 KiB at most)")

    def _probe(self) -> None:
        """What is sent to a client that has left comes back as an error, when more is sent.

        Any client of HTTP/1.1 takes "100 Continue", however often, and waits for what follows.
        """
        if self.conn.our_state is h11.SEND_RESPONSE and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.loop.call_later(PROBE_SECONDS, self._probe)

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(ARRIVAL_SECONDS, self._late)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(408, f"the request did not arrive within {ARRIVAL_SECONDS} seconds")
        self.transport.close()

    def _refuse(self, status: int, reason: str) -> None:
        """Answers without the application, and closes."""
        body = json.dumps({"error": reason}).encode()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
        }
        response = h11.Response(
            status_code=status, headers=list(headers.items()), reason=HTTPStatus(status).phrase
        )
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
