"""A hub of a few files on this machine: what it gives, what it refuses, and who asked."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Answers `/{owner}/{name}/resolve/main/{file}` as the real one does.

    Attributes:
        files: What it has, by model and name.
        refusals: Status and error code by model, instead of files.
        token: Who may see anything; None: everybody.
        asked: Method and path of each request for a file.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.token: str | None = None
        self.asked: list[tuple[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if "/resolve/" in request.path:  # the library asks for other things too
            self.asked.append((request.command, request.path))
        model, _, name = request.path.strip("/").partition("/resolve/main/")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.refuse(request, 401, "RepoNotFound")
        if model in self.refusals:
            return self.refuse(request, *self.refusals[model])
        if model not in self.files:
            return self.refuse(request, 404, "RepoNotFound")
        if name not in self.files[model]:
            return self.refuse(request, 404, "EntryNotFound")
        content = self.files[model][name]
        request.send_response(200)
        request.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)
        return None

    def refuse(self, request: BaseHTTPRequestHandler, status: int, code: str) -> None:
        request.send_response(status)
        request.send_header("X-Repo-Commit", COMMIT)
        if code:
            request.send_header("X-Error-Code", code)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


BERT = json.dumps(
    {
        "model_type": "bert",
        "vocab_size": 60,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
    }
).encode()
"""The config.json of a tiny BERT."""
