"""Against a real S3 endpoint on loopback: moto's server, through s3fs and botocore as they are."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from nlpkit.checkpoint.backup import Backup
from nlpkit.checkpoint.files import verify
from nlpkit.checkpoint.keeper import Keeper
from tests.checkpoint.small import ALL_FILES, about, files, holds, names, save, until

pytestmark = (
    pytest.mark.slow
)  # a server; test_backup.py and test_copier.py have the same on folders

KEY = "wJalrXUtnFEMI/K7MDENG"


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedMotoServer]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # a number of its own: it is started a second time
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(server: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the endpoint, with an empty bucket `models`; named by the environment alone."""
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()  # it remembers the endpoint of another module
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    yield client
    for key in keys(client):
        client.delete_object(Bucket="models", Key=key)
    client.delete_bucket(Bucket="models")
    client.close()


def keys(s3: Any) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket="models").get("Contents", [])]


def body(s3: Any, key: str) -> bytes:
    content: bytes = s3.get_object(Bucket="models", Key=key)["Body"].read()
    return content


def test_checkpoints_are_copied_pruned_and_fetched_again(s3: Any, tmp_path: Path) -> None:
    here, new = tmp_path / "checkpoints", tmp_path / "new"
    backup = Backup("s3://models/team/runs/", "cards")
    kept = Keeper(here, keep=2, backup=backup, say=pytest.fail)
    for step in (10, 20, 30, 40):
        kept.save(step, files(step), about(10), best=step == 10)
        kept.wait()
    kept.close()
    stay = ("step-00000010", "step-00000030", "step-00000040")
    assert names(here) == ["best", "last", *stay]
    assert keys(s3) == [f"team/runs/cards/{n}/{f}" for n in stay for f in sorted(ALL_FILES)]
    assert kept.report()["backup"]["waiting"] == []
    found = backup.newest(new, 0, pytest.fail)
    assert found
    assert found.step == 40
    assert names(new) == ["step-00000010", "step-00000040"]
    assert all(holds(verify(new / f"step-000000{step}").path, step) for step in (10, 40))
    assert backup.newest(new, 40, pytest.fail) is None


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_damaged_object_is_named_and_the_next_older_checkpoint_fetched(
    s3: Any, tmp_path: Path, name: str
) -> None:
    backup = Backup("s3://models", "cards")
    for step in (4, 5):
        backup.copy(save(tmp_path / "checkpoints", step))
    key = f"cards/step-00000005/{name}"
    damaged = bytearray(body(s3, key))
    damaged[-1] ^= 1
    s3.put_object(Bucket="models", Key=key, Body=bytes(damaged))
    named: list[str] = []
    found = backup.newest(tmp_path / "new", 0, named.append)
    assert found
    assert found.step == 4
    assert [message.partition(" (")[0] for message in named] == [f"s3://models/{key}: is damaged"]


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_missing_object_is_named_and_copying_again_mends_it(
    s3: Any, tmp_path: Path, name: str
) -> None:
    backup, named = Backup("s3://models", "cards"), list[str]()
    path = save(tmp_path / "checkpoints", 5)
    backup.copy(path)
    key = f"cards/step-00000005/{name}"
    s3.delete_object(Bucket="models", Key=key)
    assert backup.newest(tmp_path / "new", 0, named.append) is None
    assert named == [f"s3://models/{key}: is missing"]
    backup.copy(path)
    assert backup.newest(tmp_path / "new", 0, pytest.fail)


def test_a_bucket_that_is_not_there_is_told_of_and_not_made(s3: Any, tmp_path: Path) -> None:
    said: list[str] = []
    backup = Backup("s3://modles/runs", "cards")
    kept = Keeper(tmp_path, keep=1, backup=backup, say=said.append, patience=3.0)
    kept.save(1, files(1), about(), best=False)
    kept.close()
    assert "s3://modles/runs/cards: step-00000001 could not be copied" in said[0]
    assert "bucket does not exist" in said[0]
    assert [each["Name"] for each in s3.list_buckets()["Buckets"]] == ["models"]


def test_files_of_many_parts_are_whole_there(s3: Any, tmp_path: Path) -> None:
    backup = Backup("s3://models", "cards")
    block = bytes(range(256)) * 4096
    kept = Keeper(tmp_path / "checkpoints", keep=1, backup=backup, say=pytest.fail)
    large = {"model.safetensors": lambda path: path.write_bytes(block * 120)}
    kept.save(1, large, about(), best=False)
    kept.close()
    assert kept.report()["backup"]["copied"] == 1
    found = backup.newest(tmp_path / "new", 0, pytest.fail)
    assert found
    assert (found.path / "model.safetensors").read_bytes() == block * 120


def test_an_endpoint_that_is_down_is_named_and_used_again_when_it_is_back(
    s3: Any, server: ThreadedMotoServer, tmp_path: Path
) -> None:
    backup, said, named = Backup("s3://models", "cards"), list[str](), list[str]()
    told = "step-00000002 could not be copied, is tried again (EndpointConnectionError"
    kept = Keeper(tmp_path / "here", keep=1, backup=backup, say=said.append, patience=10)
    kept.save(1, files(1), about(), best=False)
    until(lambda: kept.report()["backup"]["copied"] == 1)
    server.stop()
    try:
        kept.save(2, files(2), about(), best=False)
        until(lambda: told in "\n".join(said))  # perhaps after a failure to remove old ones
        assert backup.newest(tmp_path / "new", 0, named.append) is None
    finally:
        server.start()
    kept.close()
    assert named[0].startswith("s3://models/cards: cannot be reached (EndpointConnectionError")
    assert KEY not in " ".join(said + named)
    found = backup.newest(tmp_path / "new", 0, pytest.fail)
    assert found
    assert found.step == 2
