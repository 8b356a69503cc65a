"""Reaching a cluster: who is let in, what is never sent or shown, and errors of one line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from nlpkit.errors import InputError, RunError
from nlpkit_ray.client import Connection, connect
from tests.jobs.cluster import Cluster, free_port
from tests.jobs.runs import nobody

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "5ec2e7" * 10
PLACES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")


@pytest.fixture(autouse=True)
def _no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This user has no token, and no cluster."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def server(answers: dict[str, object]) -> Iterator[tuple[int, list[str]]]:
    """A server of JSON by path, or where it sends us; its port, and the tokens it was sent."""

    class Handler(BaseHTTPRequestHandler):
        sent: ClassVar[list[str]] = []

        def do_GET(self) -> None:
            self.sent.append(self.headers.get("Authorization", ""))
            answer = answers.get(self.path)
            if isinstance(answer, str):
                self.send_response(307)
                self.send_header("Location", answer)
            else:
                self.send_response(200 if self.path in answers else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield listening.server_port, Handler.sent
        finally:
            listening.shutdown()
            thread.join()


def ended(connection: Connection, job: str) -> str:
    """The status of a job once it has ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (state := str(connection.info(job).status)) in ("SUCCEEDED", "FAILED", "STOPPED"):
            return state
        time.sleep(0.1)
    raise AssertionError(f"{job} does not end")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "which cluster"),
        ("auto", "looks like http://"),
        ("ray://head:10001", "looks like http://"),
        ("ftp://head:21", "looks like http://"),
        ("http://head:port", "looks like http://"),
        ("http://[::1", "looks like http://"),
        ("head:6379", "port of the dashboard"),
    ],
)
def test_an_address_that_is_none_is_refused_with_one_that_is(address: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        connect(address)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(InputError, match="looks like") as caught:
        connect(f"http://me:{SECRET}@head:8265")
    assert SECRET not in str(caught.value)


def test_an_address_needs_no_scheme_and_may_stand_in_the_environment(
    pool: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connect(f"127.0.0.1:{pool.dashboard}").url == pool.address
    monkeypatch.setenv("RAY_ADDRESS", pool.address)
    assert connect(None).url == pool.address


def test_where_nobody_listens_is_said_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match=r"cannot be reached \(.*refused\); is it the address"):
        connect(f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 2


def test_who_listens_and_says_nothing_is_given_up_in_5_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(InputError, match="cannot be reached"):
            connect(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 5


def test_the_port_where_nodes_join_is_told_from_the_api(pool: Cluster) -> None:
    with pytest.raises(InputError, match="something else.*address of the dashboard"):
        connect(f"127.0.0.1:{pool.port}")


def test_an_open_cluster_off_this_machine_is_refused_unless_insecure(pool: Cluster) -> None:
    elsewhere = f"http://0.0.0.0:{pool.dashboard}"  # reaches this machine, and is not loopback
    with pytest.raises(InputError, match="RAY_AUTH_MODE=token.*insecure=True"):
        connect(elsewhere)
    assert connect(elsewhere, insecure=True).jobs() == connect(pool.address).jobs()


def test_a_server_that_knows_no_authentication_counts_as_open() -> None:
    with server({"/api/version": {"ray_version": "2.40.0"}}) as (port, _):
        with pytest.raises(InputError, match="insecure=True"):
            connect(f"http://0.0.0.0:{port}")
        assert connect(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token"])
def test_the_right_token_is_found_where_ray_looks(
    name: str, token_pool: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert token_pool.token
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text(f"{token_pool.token}\n")
    if not name.startswith("~"):
        path = path.rename(tmp_path / "token")
        monkeypatch.setenv(name, str(path) if name.endswith("PATH") else token_pool.token)
    connection = connect(token_pool.address)
    assert connection.jobs() == []
    assert token_pool.token not in repr(connection)


@pytest.mark.parametrize("token", ["", SECRET, f"{SECRET}\n{SECRET}", f"{SECRET}ü", f"{SECRET}€"])
def test_no_token_and_a_wrong_one_are_refused_at_once_and_never_shown(
    token: str, token_pool: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        connect(token_pool.address)
    assert time.monotonic() - started < 2
    assert all(place in str(caught.value) for place in PLACES)
    assert "5ec2e7" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_token_that_is_changed_under_way_is_named(
    token_pool: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert token_pool.token
    monkeypatch.setenv("RAY_AUTH_TOKEN", token_pool.token)
    connection = connect(token_pool.address)
    connection.client._headers["Authorization"] = f"Bearer {SECRET}"
    with pytest.raises(InputError, match="another token.*RAY_AUTH_TOKEN"):
        connection.info("nlpkit-x")


def test_one_process_reaches_one_cluster_after_the_other(
    pool: Cluster, token_pool: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert token_pool.token
    monkeypatch.setenv("RAY_AUTH_TOKEN", token_pool.token)
    for each in (token_pool, pool, token_pool):
        connection = connect(each.address)
        with pytest.raises(InputError, match="knows no such job"):
            connection.info("nlpkit-x")


def test_a_token_is_not_sent_to_who_wants_none() -> None:
    with server(OPEN) as (port, sent):
        code = f"from nlpkit_ray.client import connect; connect('http://127.0.0.1:{port}')"
        env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": SECRET}
        subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert len(sent) > 1
    assert "5ec2e7" not in "".join(sent)


TOKENS: dict[str, object] = {
    "/api/authentication_mode": {"authentication_mode": "token"},
    "/api/version": {"ray_version": "2.60.0"},
    "/api/jobs/": {"job_id": "", "submission_id": "mine"},
}


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "http_proxy"])
def test_the_address_that_is_named_is_the_only_one_that_is_asked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(TOKENS) as (port, sent), server(TOKENS) as (other, nothing):
        monkeypatch.setenv(name, f"http://127.0.0.1:{other}")
        monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password mine\n")
        connection = connect(f"127.0.0.1:{port}")
        connection.submit(submission_id="mine", entrypoint="true", metadata={})
        with pytest.raises(InputError, match="no such job"):
            list(connection.tail("mine"))
    assert nothing == []
    assert len(sent) >= 4
    assert set(sent) == {"", f"Bearer {SECRET}"}  # the mode is asked without it
    assert sent.count("") == 1


OPEN = {**TOKENS, "/api/authentication_mode": {"authentication_mode": "disabled"}}


@pytest.mark.parametrize("reply", [[], [1], 5, None, {}, {"job_id": "mine"}])
def test_an_answer_that_is_not_rays_is_an_error_of_one_line(reply: object) -> None:
    with server({**OPEN, "/api/version": reply}) as (port, _):
        with pytest.raises(InputError, match="is no Ray, .*is it the dashboard's address"):
            connect(f"http://127.0.0.1:{port}")
    with server({**OPEN, "/api/jobs/": reply}) as (port, _):
        connection = connect(f"http://127.0.0.1:{port}")
        with pytest.raises(RunError, match="^mine: .* is no Ray, "):
            connection.submit(submission_id="mine", entrypoint="true", metadata={})


def used(address: str) -> None:
    connection = connect(address)
    connection.submit(submission_id="mine", entrypoint="true", metadata={})
    list(connection.download("mine", "b"))


@pytest.mark.parametrize("path", [*TOKENS, "/api/v0/logs/file?node_id=a&filename=b&lines=-1"])
def test_a_cluster_sends_nobody_on_to_another_one(path: str) -> None:
    job = {"type": "SUBMISSION", "status": "RUNNING", "entrypoint": "", "driver_node_id": "a"}
    with server(OPEN) as (other, sent):
        there = f"http://127.0.0.1:{other}{path}"
        with server({**OPEN, "/api/jobs/mine": job, path: there}) as (port, _):
            with pytest.raises((InputError, RunError), match=f"sends us on to .*:{other}/"):
                used(f"http://127.0.0.1:{port}")
    assert sent == []


@pytest.mark.parametrize("scheme", ["http://", "HTTP://", ""])
def test_a_token_goes_to_another_machine_in_clear_only_where_that_is_said(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRET)
    with server(TOKENS) as (port, sent):
        elsewhere = f"{scheme}0.0.0.0:{port}"  # reaches this machine, and is not loopback
        with pytest.raises(InputError, match=r"in clear; .*ssh -N -L .*https://.*insecure=True"):
            connect(elsewhere)
        assert sent == [""]
        assert connect(elsewhere, insecure=True)
        assert f"Bearer {SECRET}" in sent


def test_a_user_without_a_home_has_no_token_there(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody(monkeypatch)
    with server(TOKENS) as (port, _):
        with pytest.raises(InputError, match="wants a token"):
            connect(f"http://127.0.0.1:{port}")


def test_a_cluster_that_takes_no_jobs_yet_is_waited_for_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(OPEN) as (port, _):
        connection = connect(f"http://127.0.0.1:{port}")
        young = "Traceback …\nException: No available agent to submit job, please try again later."
        asked: list[object] = []

        def submit(**given: object) -> None:
            asked.append(given)
            if len(asked) < 3:
                raise RuntimeError(f"Request failed with status code 500: {young}")

        monkeypatch.setattr(connection.client, "submit_job", submit)
        connection.submit(submission_id="mine", entrypoint="true", metadata={})
        assert len(asked) == 3
        assert (
            capsys.readouterr().err == f"{connection.url}: has just started; waits until it "
            "takes jobs\n"
        )
        asked.clear()
        monkeypatch.setattr("nlpkit_ray.client._YOUNG", 0)
        with pytest.raises(RunError, match=r"^mine: .*No available agent to submit job"):
            connection.submit(submission_id="mine", entrypoint="true", metadata={})


def test_errors_of_the_api_are_one_line_about_the_job(pool: Cluster) -> None:
    connection = connect(pool.address)
    connection.submit(submission_id="errors-404", entrypoint="sleep 60", metadata={})
    with pytest.raises(InputError, match="^errors-404: there is a job of this name$"):
        connection.submit(submission_id="errors-404", entrypoint="true", metadata={})
    with pytest.raises(RunError, match="^errors-404: .*non-terminal state"):
        connection.delete("errors-404")
    with pytest.raises(RunError, match="Entity Too Large$"):
        connection.submit(submission_id="large", entrypoint="true", metadata={"x": "x" * 3_000_000})
    connection.stop("errors-404")
    assert ended(connection, "errors-404") == "STOPPED"
    connection.delete("errors-404")
    for ask in (connection.info, connection.logs, connection.stop, connection.delete):
        with pytest.raises(InputError, match="^errors-404: the cluster knows no such job"):
            ask("errors-404")
    with pytest.raises(InputError, match="^errors-404: the cluster knows no such job"):
        list(connection.tail("errors-404"))


def test_a_package_that_is_too_large_is_refused_with_the_limit(
    pool: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(101 << 20))
    with pytest.raises(RunError, match="^much: .*413: Maximum request body size 104857600"):
        connect(pool.address).submit(
            submission_id="much",
            entrypoint="true",
            metadata={},
            runtime_env={"working_dir": str(tmp_path)},
        )


def test_a_log_is_followed_to_its_last_line_and_comes_as_a_file_too(
    pool: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    connection = connect(pool.address)
    entrypoint = "printf 'first\\n'; sleep 1; printf 'last, without an end'"
    connection.submit(submission_id="tailed", entrypoint=entrypoint, metadata={"name": "tailed"})
    text = "".join(connection.tail("tailed"))
    assert "\nfirst\n" in text
    assert text.endswith("\nlast, without an end")
    assert caplog.messages == []  # Ray's remarks would stand in the log that people follow
    assert ended(connection, "tailed") == "SUCCEEDED"
    assert connection.logs("tailed") == text
    assert b"".join(connection.download("tailed", "job-driver-tailed.log")) == text.encode()
    assert [each.submission_id for each in connection.jobs()] == ["tailed"]
    connection.delete("tailed")
    assert connection.jobs() == []


def test_a_name_can_be_taken_again_as_soon_as_its_job_is_deleted(pool: Cluster) -> None:
    connection = connect(pool.address)
    connection.submit(submission_id="again", entrypoint="exit 3", metadata={})
    assert ended(connection, "again") == "FAILED"
    connection.delete("again")
    connection.submit(submission_id="again", entrypoint="sleep 3; echo anew", metadata={})
    assert ended(connection, "again") == "SUCCEEDED"
    assert "anew" in connection.logs("again")
    connection.delete("again")


def test_helpers_that_have_ended_are_forgotten_and_nothing_else_is(pool: Cluster) -> None:
    connection = connect(pool.address)
    for name in ("nlpkit-transfer-1", "nlpkit-probe-1", "nlpkit-1", "nlpkit-2"):
        connection.submit(submission_id=name, entrypoint="true", metadata={})
        ended(connection, name)
    connection.submit(submission_id="nlpkit-transfer-2", entrypoint="sleep 60", metadata={})
    connection.delete("nlpkit-2")  # Ray is done with all of them then
    connection.submit(submission_id="nlpkit-probe-2", entrypoint="true", metadata={})
    ended(connection, "nlpkit-probe-2")
    connection.tidy()
    left = {job.submission_id for job in connection.client.list_jobs()}
    assert left >= {"nlpkit-1", "nlpkit-transfer-2", "nlpkit-probe-2"}  # the last has just ended
    assert not left & {"nlpkit-transfer-1", "nlpkit-probe-1"}
    connection.stop("nlpkit-transfer-2")
    ended(connection, "nlpkit-transfer-2")


def test_a_cluster_that_has_gone_is_said_in_a_line() -> None:
    with server(OPEN) as (port, _):
        connection = connect(f"http://127.0.0.1:{port}")
    with pytest.raises(RunError, match="^a: the cluster cannot be reached any more$"):
        connection.info("a")
    with pytest.raises(RunError, match="^a: the cluster cannot be reached any more$"):
        list(connection.tail("a"))
