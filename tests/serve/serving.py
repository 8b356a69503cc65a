"""A real server in a process of its own, and clients that behave and that do not."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from nlpkit.contracts import Codec, Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = "HTTP/1.1 503 Service Unavailable"
JSON = {"Content-Type": "application/json"}
_MAIN = """
import sys
from nlpkit.cli.main import main
from nlpkit_serve import batching, server
{limits}
sys.exit(main())
"""


def command(*arguments: str, limits: str = "") -> list[str]:
    """`nlpkit serve` as a command line; `limits` sets constants of the package."""
    return [sys.executable, "-c", _MAIN.format(limits=limits), "serve", *arguments]


def taking(*columns: str, words: bool = False) -> Any:
    """What a question asks of a model that takes these columns, and writes nothing."""
    return SimpleNamespace(
        columns=columns,
        task=SimpleNamespace(words=words),
        codec=Codec({}, Vocabulary(size=1, max_length=1)),
        writes=False,
    )


class Server:
    """`nlpkit serve RUN` at a port that is free, until the context ends.

    Attributes:
        process: The running server.
        log: What it has said so far goes into this file.
    """

    def __init__(self, run: Path, log: Path, *options: str, limits: str = "") -> None:
        self.log = log
        line = command(str(run), "--port", "0", *options, limits=limits)
        with log.open("wb") as file:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(line, stderr=file, stdout=file, env=environment)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 60
        while (found := re.search(r"answers at http://(.+):(\d+)\n", self.log.read_text())) is None:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.address = ("127.0.0.1", int(found[2]))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, question: Any, headers: dict[str, str] = JSON) -> tuple[int, Any]:
        """Status and answer of POST /predict; the question is bytes, or goes as JSON."""
        body = question if isinstance(question, bytes) else json.dumps(question).encode()
        return self.request("POST", "/predict", body, headers)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] = JSON
    ) -> tuple[int, Any]:
        """Status and JSON answer of any request."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """What GET /metrics says, by name and labels."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        lines = [line.rpartition(" ") for line in text.splitlines() if line[0] != "#"]
        return {name: float(value) for name, _, value in lines}

    def waits(self, texts: int) -> None:
        """Returns when so many texts wait for the model."""
        deadline = time.monotonic() + 20
        while self.metrics()["nlpkit_waiting_texts"] != texts:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def closes(self) -> None:
        """Returns when no connection is taken any more."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                self.connect().close()
            except ConnectionError:
                return
            time.sleep(0.02)
        raise AssertionError

    def connect(self) -> socket.socket:
        """A connection that says nothing yet."""
        return socket.create_connection(self.address, timeout=30)


def received(connection: socket.socket) -> tuple[int, Any]:
    """Reads to the end what a server answers that then closes: status and JSON."""
    answer = b""
    while part := connection.recv(65536):
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def held(server: Server, count: int, seconds: float = 2) -> Counter[str]:
    """What so many connections at once, held open and saying nothing, are told within a time."""
    opened = await asyncio.gather(*(asyncio.open_connection(*server.address) for _ in range(count)))

    async def told(reader: asyncio.StreamReader) -> str:
        try:
            return (await asyncio.wait_for(reader.readline(), seconds)).decode().strip()
        except TimeoutError:
            return "nothing"

    lines = Counter(await asyncio.gather(*(told(reader) for reader, _ in opened)))
    for _, writer in opened:
        writer.close()
    return lines
