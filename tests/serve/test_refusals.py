"""What is no question is refused with a reason, as JSON, and the service lives."""

from __future__ import annotations

import gzip
import http.client
import json
import socket

import pytest

from nlpkit_serve.app import BODY
from tests.bundle.bundles import TEXTS
from tests.serve.serving import JSON, received

DEEP = b'{"texts": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
QUESTIONS = {
    b"": (400, "no JSON"),
    b"{": (400, "no JSON"),
    b"text=hello": (400, 'no JSON (Expecting value: line 1 column 1 (char 0)); send {"texts": ["'),
    b"[]": (400, "must be an object"),
    b'{"text": "a", "text": "b"}': (400, 'the key "text" stands twice'),
    b'{"texts": [{"a": 1, "a": 2}]}': (400, 'the key "a" stands twice'),
    b"{}": (400, 'either "text" or "texts"'),
    b'{"text": "a", "texts": []}': (400, 'either "text" or "texts"'),
    b'{"texts": "a"}': (400, "must be a list"),
    b'{"texts": {"a": "b"}}': (400, "must be a list"),
    b'{"text": "a", "topk": 1}': (400, 'no key "topk"'),
    b'{"text": "a", "top_k": 0}': (400, '"top_k" must be'),
    b'{"text": "a", "top_k": true}': (400, '"top_k" must be'),
    b'{"text": "a", "top_k": 1e400}': (400, '"top_k" must be'),
    b'{"text": NaN}': (400, "has no NaN"),
    b'{"top_k": ' + b"9" * 5000 + b"}": (400, "no JSON"),
    b'{"text": "\xff"}': (400, "not UTF-8"),
    b'{"text": 5}': (422, "text: is no text"),
    b'{"text": {}}': (422, "text: is no text"),
    b'{"text": "\\udc00"}': (422, "half a surrogate pair"),
    DEEP: (400, "nested too deeply"),
    json.dumps({"texts": ["a"] * 257}).encode(): (413, "257 texts; at most 256"),
    b'{"text": "' + b"a" * 10_001 + b'"}': (422, "10001 characters; at most 10000"),
    b" " * (BODY + 1): (413, f"larger than {BODY} bytes"),
}


@pytest.fixture(autouse=True)
def _lives(server):
    """Whatever a test has asked, the next question is answered."""
    yield
    assert server.ask({"text": TEXTS[0]})[0] == 200
    assert server.process.poll() is None
    assert "error" not in server.log.read_text()


@pytest.mark.parametrize("body", QUESTIONS, ids=lambda body: body[:24].decode("latin-1"))
def test_a_body_that_is_no_question_is_refused(server, body):
    status, reason = QUESTIONS[body]
    before = server.metrics().get(f'nlpkit_requests_total{{status="{status}"}}', 0)
    found, answer = server.ask(body)
    assert found == status
    assert answer.keys() == {"error"}
    assert reason in answer["error"]
    assert server.metrics()[f'nlpkit_requests_total{{status="{status}"}}'] == before + 1


@pytest.mark.parametrize(
    "kind", ["", "text/plain; charset=latin-1", "application/x-www-form-urlencoded", "text/xml"]
)
def test_json_is_taken_whatever_the_content_type_calls_it(server, kind):
    assert server.ask({"text": TEXTS[0]}, {"Content-Type": kind}) == server.ask({"text": TEXTS[0]})


def test_a_byte_order_mark_is_passed_over(server):
    body = json.dumps({"text": TEXTS[0]}).encode("utf-8-sig")
    assert server.ask(body) == server.ask({"text": TEXTS[0]})


@pytest.mark.parametrize("coding", ["gzip", "br", ""])
def test_a_compressed_body_is_refused_with_what_it_is(server, coding):
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    headers = {"Content-Encoding": coding} if coding else {}
    connection.request("POST", "/predict", gzip.compress(b'{"text": "a"}'), headers)
    response = connection.getresponse()
    assert (response.status, response.headers["Accept-Encoding"]) == (415, "identity")
    assert json.loads(response.read()) == {
        "error": f"the body is compressed ({coding or 'gzip'}); send it as it is"
    }
    connection.close()


@pytest.mark.parametrize(
    ("target", "status"),
    [("http://a:8000/predict", 200), ("HTTPS://a/predict?b", 200), ("http://a", 404)],
)
def test_a_target_may_name_the_server_as_for_a_proxy(server, target, status):
    assert server.request("POST", target, b'{"text": "a"}')[0] == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("DELETE", "/predict", 405),
        ("POST", "/metrics", 405),
        ("POST", "/", 404),
        ("POST", "/predict/", 404),
        ("GET", "/predict/../../etc/passwd", 404),
        ("GET", "/%ff%00", 404),
    ],
)
def test_other_paths_and_methods_are_refused_with_those_that_there_are(
    server, method, path, status
):
    found, answer = server.request(method, path)
    assert found == status
    assert "there are POST /predict, GET /healthz and GET /metrics" in answer["error"]


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000,
    ],
    ids=lambda text: text[:30].decode("latin-1").split("\r")[0],
)
def test_what_is_no_http_is_refused(server, text):
    with server.connect() as connection:
        connection.sendall(text)
        status, answer = received(connection)
    assert status in (400, 501)
    assert "HTTP" in answer["error"]


def send_chunks(connection: socket.socket, count: int) -> None:
    """A body without a length, of so many times 64 KiB."""
    connection.sendall(
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    for _ in range(count):
        connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
    connection.sendall(b"0\r\n\r\n")


def test_a_body_without_a_length_may_be_no_larger_either(server):
    with server.connect() as connection:
        send_chunks(connection, BODY // 65536 + 1)
        connection.shutdown(socket.SHUT_WR)
        status, answer = received(connection)
    assert (status, answer["error"]) == (413, f"the body is larger than {BODY} bytes")


def test_an_endless_body_is_cut_off(server):
    with server.connect() as connection, pytest.raises(ConnectionError):
        send_chunks(connection, 10**6)


def test_a_client_that_asks_first_need_not_send_what_is_too_large(server):
    with server.connect() as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: 1000000000000\r\n\r\n"
        )
        assert received(connection)[0] == 413


def test_a_client_that_leaves_in_the_middle_harms_nobody(server):
    head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    for part in (
        "POST /pre",
        f"{head}Content-Length: 99\r\n\r\n",
        f'{head}Content-Length: 13\r\n\r\n{{"text": "a"}}',
    ):
        with server.connect() as connection:
            connection.sendall(part.encode())
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    connection.request("POST", "/predict", b'{"text": "card"}', JSON)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_connection_is_used_again_after_a_refusal(server):
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    for body, status in ((b"{", 400), (b'{"text": "card"}', 200), (b"[]", 400)):
        connection.request("POST", "/predict", body, JSON)
        response = connection.getresponse()
        assert (response.status, response.will_close) == (status, False)
        response.read()
    connection.close()
