"""Slow clients, a slow model, one that fails, and more than can be served."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.serve.serving import JSON, REFUSED, Server, held, received

pytestmark = pytest.mark.slow  # it waits for seconds, and for a server of its own

LIMITS = (
    "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)); "
    "server.ARRIVAL_SECONDS, server.PROBE_SECONDS = 0.5, 0.05; "
    "server.CONNECTIONS, batching.WAITING = 12, 40"
)
HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
SLOW, FAILING, GOOD = "card money card", "card card", "money"


@pytest.fixture(scope="module")
def server(wayward, folder):
    log = folder / "overload.log"
    with Server(wayward, log, "--trust-plugins", "--host", "0.0.0.0", limits=LIMITS) as server:
        yield server


def dribbled(connection, part):
    """The answer to a client that sends a part each tenth of a second, for ten seconds at most."""
    answer, started = b"", time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - started < 10:
        try:
            if not (received := connection.recv(65536)):
                break
            answer += received
        except TimeoutError:
            with suppress(ConnectionError):  # it closes meanwhile
                connection.sendall(part)
        except ConnectionError:  # it had closed when the last part came
            break
    return answer


@pytest.mark.parametrize(
    "start",
    [b"", b"POST /predict HTTP/1.1\r\nHost:", HEAD + b"Content-Length: 500\r\n\r\n"],
    ids=["nothing", "headers", "body"],
)
def test_a_request_has_to_arrive_in_time_however_it_dribbles(server, start):
    with server.connect() as connection:
        connection.sendall(start)
        started = time.monotonic()
        answer = dribbled(connection, b" " if start else b"")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"the request did not arrive within 0.5 seconds" in answer
    assert 0.4 < time.monotonic() - started < 10


def test_a_body_that_nobody_reads_has_to_arrive_in_time_too(server):
    with server.connect() as connection:
        connection.sendall(HEAD.replace(b"/predict", b"/nowhere") + b"Content-Length: 500\r\n\r\n")
        started = time.monotonic()
        answer = dribbled(connection, b" ")
    assert answer.startswith(b"HTTP/1.1 404")
    assert 0.4 < time.monotonic() - started < 10


def test_while_the_model_runs_the_service_answers(server):
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(server.ask, {"text": SLOW})
        time.sleep(0.3)
        assert server.request("GET", "/healthz")[0] == 200
        assert server.ask(b"{")[0] == 400
        assert not slow.done()
        assert slow.result()[0] == 200


def test_a_failure_of_the_model_is_logged_and_the_next_request_works(server):
    status, answer = server.ask({"text": FAILING})
    assert (status, answer["error"]) == (500, "the model failed; the service has logged how")
    assert "the model failed on 1 texts: MemoryError: there is none left" in server.log.read_text()
    assert server.ask({"text": GOOD})[0] == 200


def test_a_full_queue_says_when_to_come_again(server):
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(server.ask, {"text": SLOW})
        time.sleep(0.3)
        waiting = threads.submit(server.ask, {"texts": [GOOD] * 30})
        server.waits(30)
        connection = http.client.HTTPConnection(*server.address, timeout=30)
        connection.request("POST", "/predict", b'{"texts": ["a"' + b', "a"' * 10 + b"]}", JSON)
        response = connection.getresponse()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert b"too many texts wait" in response.read()
        connection.close()
        assert slow.result()[0] == waiting.result()[0] == 200


def test_too_many_connections_are_refused_and_those_that_are_there_served(server):
    held = [server.connect() for _ in range(12)]
    time.sleep(0.2)
    with server.connect() as connection:
        assert received(connection) == (
            503,
            {"error": "there are 12 connections already; try again"},
        )
    held[0].sendall(HEAD + b'Connection: close\r\nContent-Length: 17\r\n\r\n{"text": "money"}')
    assert received(held[0])[0] == 200
    for connection in held:
        connection.close()
    time.sleep(0.2)
    assert server.ask({"text": GOOD})[0] == 200


def test_more_connections_at_once_than_files_may_be_open_are_refused_and_not_logged(server):
    before = server.log.read_text()
    told = asyncio.run(held(server, 300, 2))
    assert told.keys() <= {REFUSED, "HTTP/1.1 408 Request Timeout"}  # those that are taken are late
    assert told[REFUSED] > 200
    assert server.log.read_text() == before


def asking(server, text, count, end=b"Content-Length: %d\r\n\r\n%s"):
    """A connection on which so many texts are asked, and the answer not read."""
    body = json.dumps({"texts": [text] * count}).encode()
    connection = server.connect()
    connection.sendall(HEAD + end % (len(body), body))
    return connection


def test_texts_of_clients_that_have_left_are_not_computed(server):
    before = server.metrics()
    with asking(server, SLOW, 1) as slow:
        time.sleep(0.2)
        gone = [asking(server, GOOD, 10) for _ in range(4)]
        server.waits(40)
        assert server.ask({"text": GOOD})[0] == 503
        for connection in gone:
            connection.close()
        server.waits(0)
        with asking(server, GOOD, 40):
            server.waits(40)
        server.waits(0)
        slow.setblocking(False)
        with pytest.raises(BlockingIOError):  # it is computed all the while
            slow.recv(1)
        assert server.ask({"text": GOOD})[0] == 200
    counted = {name: value - before.get(name, 0) for name, value in server.metrics().items()}
    assert counted["nlpkit_batch_texts_sum"] == 2
    assert counted['nlpkit_requests_total{status="499"}'] == 5


def test_a_client_that_sends_no_more_and_listens_gets_its_answers(server):
    bodies = [json.dumps({"text": text}).encode() for text in (SLOW, GOOD)]
    both = b"".join(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies)
    with server.connect() as connection:
        connection.sendall(both)
        connection.shutdown(socket.SHUT_WR)
        started, answer = time.monotonic(), b""
        while part := connection.recv(65536):
            answer += part
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b'"predictions"') == 2
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100")
    assert 0.9 < time.monotonic() - started < 10


def test_a_client_of_http_1_0_that_sends_no_more_gets_its_answer_alone(server):
    body = json.dumps({"text": SLOW}).encode()
    head = b"POST /predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    with server.connect() as connection:
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)
        status, answer = received(connection)
    assert (status, list(answer)) == (200, ["predictions"])


def test_half_a_body_of_a_client_that_sends_no_more_is_told_so(server):
    with server.connect() as connection:
        connection.sendall(HEAD + b'Content-Length: 99\r\n\r\n{"text": ')
        connection.shutdown(socket.SHUT_WR)
        assert received(connection) == (
            400,
            {"error": "the request ended before its body was whole"},
        )


def test_off_loopback_it_warns_that_everybody_may_ask(server):
    assert "warning: --host 0.0.0.0: whoever reaches" in server.log.read_text()
    assert "there is no authentication" in server.log.read_text()
