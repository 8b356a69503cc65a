"""What a real cluster answers before anything is queued there, and how soon."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nlpkit_ray import probe
from nlpkit_ray.client import Connection, connect
from nlpkit_ray.gang import Gang
from nlpkit_ray.preflight import Report, ask, preflight
from tests.jobs.asking import FOUR, ONE, run
from tests.jobs.cluster import Cluster, cluster
from tests.jobs.runs import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = secrets.token_hex(20)
REFUSED = 10.0  # seconds in which a refusal comes
ACCEPTED = 8.0  # seconds in which all is found good


def asked(connection: Connection, gang: Gang, **given: Any) -> Report:
    """A preflight, timed; of its job, and of those before, no more than a record is left."""
    started = time.monotonic()
    names = {"distributions": given.pop("distributions", ["nlpkit-sdk"])}
    data = [given["data"]] if "data" in given else []
    report = preflight(connection, **run(gang, **given), **names, data=data)
    took = time.monotonic() - started
    assert took < (REFUSED if report.problems else ACCEPTED)
    assert report.seconds <= took
    jobs = connection.client.list_jobs()
    left = [job for job in jobs if (job.submission_id or "").startswith("nlpkit-probe-")]
    assert [str(job.status) for job in left] == ["SUCCEEDED"]
    return report


@contextmanager
def holding(connection: Connection, gpus: int) -> Iterator[None]:
    """Somebody else has so many GPUs, and every CPU."""
    code = (
        "import ray, time; ray.init(address='auto', logging_level=40); "
        "cpus = int(ray.cluster_resources()['CPU']); "
        f"group = ray.util.placement_group([{{'GPU': 1}}] * {gpus} + [{{'CPU': 1}}] * cpus); "
        "ray.get(group.ready()); print('held', flush=True); time.sleep(600)"
    )
    name = f"holds-{secrets.token_hex(4)}"
    connection.submit(submission_id=name, entrypoint=f'exec python -c "{code}"', metadata={})
    try:
        until(lambda: "\nheld" in connection.logs(name), "GPUs are held", 60)
        yield
    finally:
        connection.stop(name)
        until(lambda: str(connection.info(name).status) == "STOPPED", "it stops", 60)
        connection.delete(name)


def test_a_run_that_can_start_is_let_through_and_nothing_travels(
    pool: Cluster, storage: Path
) -> None:
    report = asked(connect(pool.address), FOUR, storage=str(storage), secrets=["PATH"])
    assert report.problems == report.notes == report.ship == []
    assert list(storage.iterdir()) == []


def test_what_waits_is_told_what_for_though_every_cpu_is_taken(
    pool: Cluster, storage: Path
) -> None:
    connection = connect(pool.address)
    with holding(connection, 3):
        report = asked(connection, FOUR, storage=str(storage))
        one = asked(connection, ONE, storage=str(storage))
    assert report.problems == one.problems == one.notes == []
    (note,) = report.notes
    assert note == "it will wait, at place 1: 4 workers of 1 GPU each; 1 of 4 GPUs are free"


def test_what_can_never_fit_is_refused_by_a_real_cluster(pool: Cluster, storage: Path) -> None:
    five = Gang(least=5, most=5, resource="GPU", each=1.0)
    (problem,) = asked(connect(pool.address), five, storage=str(storage)).problems
    assert "5 workers of 1 GPU each, and the pool has 4 in all, room for 4" in str(problem)
    two = Gang(least=1, most=1, resource="GPU", each=5.0)
    report = asked(connect(pool.address), two, storage=str(storage), gpus_per_worker=5.0)
    assert [each.key for each in report.problems] == ["launch.gpus_per_worker"]
    assert "no node has more than 4" in report.problems[0].message


def test_a_storage_that_is_not_there_is_refused_and_not_made(pool: Cluster, tmp_path: Path) -> None:
    (problem,) = asked(connect(pool.address), ONE, storage=f"{tmp_path}/no/such").problems
    assert problem.key == "launch.storage"
    assert "cannot be written to" in problem.message
    assert list(tmp_path.iterdir()) == []


def test_a_token_opens_the_preflight_too_and_shows_nowhere(
    token_pool: Cluster, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert token_pool.token
    monkeypatch.setenv("RAY_AUTH_TOKEN", token_pool.token)
    report = asked(connect(token_pool.address), FOUR, storage=str(storage))
    assert report.problems == report.ship == []
    files = [path for path in token_pool.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    token = token_pool.token.encode()
    holders = [path.name for path in files if token in path.read_bytes()]
    assert holders == ["token"]  # where the cluster has it from


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of one GPU: another home folder, other packages and variables on the second."""
    folder = tmp_path_factory.mktemp("unlike")
    for name, version in (("tokenizers", "0.1.0"), ("nlpkit-sdk", "0.0.1")):
        info = folder / "packages" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    homes = [folder / name for name in ("first", "second")]
    for home in homes:
        (home / "storage").mkdir(parents=True)
    (homes[0] / "train.csv").write_text("text,label\n")
    env = {"HOME": str(homes[0]), "NLPKIT_ONLY_HERE": SECRET}
    other = {"HOME": str(homes[1]), "PYTHONPATH": str(folder / "packages")}
    with cluster(1, env=env) as started:
        del started.env["NLPKIT_ONLY_HERE"]
        started.add_node(1, other)
        ask(connect(started.address), {})  # the first of a node's processes takes long
        yield started


@pytest.mark.slow
def test_nodes_that_are_not_alike_are_told_apart_in_one_answer(unlike: Cluster) -> None:
    report = asked(
        connect(unlike.address),
        Gang(least=2, most=2, resource="GPU", each=1.0),
        storage="~/storage",
        data="file://~/train.csv",
        secrets=["NLPKIT_ONLY_HERE"],
    )
    told = {problem.key: problem.message for problem in report.problems if problem.key != "launch"}
    assert "~/storage: is not shared: " in told["launch.storage"]
    assert told["launch.secrets"] == "on 127.0.0.2: NLPKIT_ONLY_HERE is not set"
    assert told["data.train"].startswith("on 127.0.0.2: file://~/train.csv: cannot be read: File")
    launch = [problem for problem in report.problems if problem.key == "launch"]
    assert len(launch) == 2
    assert launch[0].message.startswith("on 127.0.0.2: is not installed, or too old: tokenizers>=")
    assert "pip install 'tokenizers>=" in launch[0].remedy
    assert "tokenizers is not the same everywhere" in launch[1].message
    assert report.ship == ["nlpkit-sdk"]  # of another version on one of them


@pytest.mark.slow
def test_no_value_of_a_secret_is_told(unlike: Cluster) -> None:
    question = {
        **{"resource": "GPU", "each": 1.0, "distributions": [], "requirements": [], "data": []},
        **{"secrets": ["NLPKIT_ONLY_HERE"], "storage": "~/storage"},
    }
    answer = ask(connect(unlike.address), question)
    assert sorted(each["found"]["secrets"] for each in answer["nodes"]) == [
        [],
        ["NLPKIT_ONLY_HERE"],
    ]
    assert SECRET not in json.dumps(answer)


@pytest.mark.slow
def test_a_node_that_hangs_is_named_in_time(unlike: Cluster) -> None:
    raylets = [
        pid
        for pid in unlike.processes(1)
        if b"/raylet\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert raylets
    for pid in raylets:
        os.kill(pid, signal.SIGSTOP)
    try:
        report = asked(connect(unlike.address), ONE, storage="~/storage")
    finally:
        for pid in raylets:
            os.kill(pid, signal.SIGCONT)
    (problem,) = report.problems
    assert problem.message.startswith("node 127.0.0.2: no answer in")


QUESTION = {"distributions": [], "requirements": [], "secrets": [], "data": []}


def test_a_node_looks_at_an_s3_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="runs")
    question = {**QUESTION, "storage": "s3://runs/ada"}
    for name in ("a", "b"):
        assert probe.look(name, question, "x")["storage"] == ""
    assert probe.see("a", question, "x") == ["a", "b"]
    probe._tidy("s3://runs/ada", "x")
    assert "Contents" not in client.list_objects_v2(Bucket="runs")
    started = time.monotonic()
    said = probe.look("a", {**question, "storage": "s3://nowhere/ada"}, "x")["storage"]
    assert "bucket does not exist" in said
    server.stop()
    client.close()
    said = probe.look("a", question, "x")["storage"]
    assert SECRET not in said
    assert said
    assert time.monotonic() - started < 6


def test_a_mount_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it waits for ever, as a dead mount does
    monkeypatch.setattr(probe, "_IO", 0.5)
    started = time.monotonic()
    question = {**QUESTION, "data": [f"{tmp_path}/pipe"], "storage": str(tmp_path)}
    found = probe.look("a", question, "x")
    assert time.monotonic() - started < 3
    assert found["data"] == {f"{tmp_path}/pipe": "no answer in 0.5 s"}
    assert found["storage"] == ""
