"""A signal ends the service when everything that was asked is answered."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serve.serving import Server


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_what_is_in_flight_is_answered_and_nothing_else_is_taken(wayward, tmp_path, number, code):
    with (
        Server(wayward, tmp_path / "log", "--trust-plugins", "--batch-size", "1") as server,
        ThreadPoolExecutor(2) as threads,
        server.connect(),
    ):
        slow = threads.submit(server.ask, {"texts": ["card money card", "money"]})
        time.sleep(0.2)
        behind = threads.submit(server.ask, {"texts": ["money"] * 9})
        server.waits(9)
        server.process.send_signal(number)
        server.closes()
        assert [len(each.result()[1]["predictions"]) for each in (slow, behind)] == [2, 9]
        assert server.process.wait(timeout=10) == code
        assert f"stopped by {number.name}" in server.log.read_text()
        assert "Traceback" not in server.log.read_text()
