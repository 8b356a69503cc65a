"""uvicorn, with what it lacks: time for a request to arrive, and refusals that are JSON."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    import socket

    from starlette.applications import Starlette

CONNECTIONS = 800
"""Open connections at most: below the 1,024 files that a process may often open."""
ARRIVAL_SECONDS = 10
"""Time for a request, headers and body, to arrive whole."""
IDLE_SECONDS = 60
"""Time for which a connection is kept open without a request."""
GRACE_SECONDS = 25
"""Time for which a stopped server goes on answering; Kubernetes kills after 30."""
BACKLOG = 2048


def run(application: Starlette, listener: socket.socket) -> None:
    """Serves until SIGINT or SIGTERM, answers what has come by then, and raises the signal again.

    Args:
        application: The ASGI application.
        listener: A listening socket; it is closed at the end.
    """
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # the application says what fails
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


class Connection(H11Protocol):
    """Closes a connection that takes too long to bring a request, byte by byte or not at all.

    uvicorn waits for headers and bodies for ever: its only timer runs between two requests.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses where there are too many already; else time begins to run."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self._refuse(503, f"there are {CONNECTIONS} connections already; try again")
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

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self._forget()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an answer nevertheless."""
        self._refuse(400, f"{msg} (HTTP/1.1, headers of 16 KiB at most)")

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
