"""A storage that no node mounts: what nodes need is copied, and nothing else differs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto.server import ThreadedMotoServer

import nlpkit
from tests.jobs.cluster import Cluster, cluster
from tests.jobs.runs import kill, processes, ranks, same, submit, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

KEY = "wJalrXUtnFEMI/K7MDENG"
STORAGE = "s3://models/team"
LONG = ("train.epochs=6", "strategy.devices=2")


@pytest.fixture
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def away(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that knows the endpoint and its credentials; this process does not."""
    known = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in known.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        client.close()
    for name in known:
        monkeypatch.delenv(name, raising=False)
    with cluster(4, env=known) as started:
        yield started


def test_a_run_survives_a_killed_rank_and_a_killed_driver_and_comes_back(
    away: Cluster, config: Path, tmp_path: Path
) -> None:
    undisturbed = submit(config, away, STORAGE, *LONG)
    disturbed = submit(config, away, STORAGE, *LONG)
    until(lambda: "epoch 2 " in disturbed.logs(), "training")
    kill(ranks(away)[-1])  # the later job's, or the other's
    until(lambda: "epoch 3 " in disturbed.logs(), "training goes on")
    drivers = [
        pid
        for pid in processes(away, "nlpkit_ray.driver")
        if disturbed.id.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    ]
    kill(*drivers)
    assert disturbed.wait(60) == "failed"
    again = submit(config, away, STORAGE, *LONG, resume=disturbed.id)
    assert again.wait(240) == "succeeded", again.logs()
    assert "resumes after step" in again.logs()
    assert undisturbed.wait(240) == "succeeded", undisturbed.logs()
    runs = [job.fetch(tmp_path / job.id) for job in (undisturbed, again)]
    assert same(runs[0].path, runs[1].path)
    assert nlpkit.load(runs[0].path).predict(["where is my parcel?"])[0].label
    assert runs[0].result["checkpoints"]
    for run in runs:
        for path in run.path.rglob("*"):
            assert not path.is_file() or KEY.encode() not in path.read_bytes()
