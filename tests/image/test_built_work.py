"""The built image trains, serves people of any id, and makes a cluster (`make image-test`)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.image.containers import (
    IMAGE,
    REPOSITORY,
    buildah,
    container,
    private,
    status,
    until,
)

pytestmark = pytest.mark.image

SMALL = """
name: small
data: sample
tokenizer: wordpiece
model: {name: transformer, layers: 1, hidden: 32, heads: 2}
train: {epochs: 1}
loader: {workers: 4}
"""
SHIPPED = """
import torch
import nlpkit
from nlpkit_tasks.sequence.codec import SequenceCodec
from nlpkit_tasks.sequence.task import SequenceTask
from dataclasses import replace

class Codec(SequenceCodec):
    def collate(self, examples, seeds):
        batch = super().collate(examples, seeds)
        return replace(batch, inputs={**batch.inputs, "more": torch.zeros(30_000_000)})

class Task(SequenceTask):
    def codec(self, schema, vocabulary):
        return Codec(self, schema, vocabulary)

@nlpkit.hookimpl
def nlpkit_tasks():
    yield nlpkit.TaskRecord(
        name="shipped",
        target="shipped:Task",
        config="nlpkit_tasks.sequence.config:SequenceConfig",
        objective="nlpkit_tasks.sequence.objective:SequenceObjective",
    )
"""


def owners(folder):
    """Who the files and folders below belong to."""
    return {(path.stat().st_uid, path.stat().st_gid) for path in folder.rglob("*")}


@pytest.mark.parametrize("user", ["", "4321:8765"])
def test_training_leaves_all_in_the_mounted_folders_and_nothing_of_root(
    box, user, folders, tmp_path
):
    owner = (1234, 5678)
    if user:
        owner = tuple(map(int, user.split(":")))
        for folder in folders:
            os.chown(folder, *owner)
    (tmp_path / "data" / "config.yaml").write_text(SMALL)
    os.chown(tmp_path / "data" / "config.yaml", *owner)
    train = ("train", "/workspace/data/config.yaml")
    done = box.run(*train, mounts=folders, user=user, shm="64m")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    (tmp_path / "data" / "shipped.py").write_text(SHIPPED)
    train += ("task=shipped", "plugins=[./shipped.py]", "name=shipped")
    full = box.run(*train, mounts=folders, user=user, shm="64m")
    assert full.returncode == 1
    assert "/dev/shm: Loader workers that hand over tensors" in full.stderr
    assert "--shm-size" in full.stderr
    models = tmp_path / "models"
    assert (models / "runs" / "small" / "result.json").exists()
    assert (models / "final" / "small" / "nlpkit.json").exists()
    assert [*(tmp_path / "data" / "processed" / "tokens").iterdir()]
    assert owners(models) == {owner}
    assert owners(tmp_path / "notebooks") == {owner}
    model = "/workspace/models/final/small"
    done = box.run("predict", model, "where is it?", mounts=folders, user=user)
    assert json.loads(done.stdout)["label"]


def test_what_is_lost_with_the_container_is_named(box, tmp_path):
    done = box.run("true")
    assert done.returncode == 0
    assert (
        "gone with the container, for not on a mount: data/raw, data/processed, models/runs, "
        "models/final, models/hub, notebooks"
    ) in done.stderr


def test_data_of_root_are_not_given_away(box, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("text,label\n")
    os.chown(tmp_path / "data", 0, 0)
    done = box.run("id", "-u", mounts={tmp_path / "data": "/workspace/data"})
    assert done.stdout == "1000\n"
    assert "belongs to root" in done.stderr
    assert "cannot write to data/raw, data/processed" in done.stderr
    assert owners(tmp_path / "data") == {(0, 0)}


def test_an_empty_folder_of_root_is_handed_over(box, tmp_path):
    """As the engine makes it, where the folder to mount did not exist."""
    (tmp_path / "data").mkdir()
    mounts = {tmp_path / "data": "/workspace/data"}
    done = box.run("touch", "/workspace/data/raw/a", mounts=mounts)
    assert done.returncode == 0, done.stderr


def test_another_user_has_jupyter_and_a_home(box, ports, folders):
    for folder in folders:
        os.chown(folder, 4321, 8765)
    box.start(mounts=folders, env=ports, user="4321:8765")
    url = f"http://127.0.0.1:{ports['JUPYTER_PORT']}"
    until(lambda: status(f"{url}/login") == 200, f"Jupyter\n{box.log}")
    (server,) = box.named("/opt/nlpkit/bin/jupyter", "lab")
    assert Path(f"/proc/{server}").stat().st_uid == 4321
    assert "no SSH: uid 4321 has no entry in /etc/passwd" in box.log
    done = box.run("doctor", "--json", user="4321:8765")
    assert json.loads(done.stdout)["facts"]["torch"]["version"], done.stderr


def test_a_cluster_with_a_token(image, tmp_path, folders):
    token = private(tmp_path / "token", "0123456789abcdef0123456789abcdef")
    mounts = {**folders, token: "/run/secrets/token"}
    env = {"RAY_AUTH_TOKEN_PATH": "/run/secrets/token"}
    (tmp_path / "data" / "config.yaml").write_text(
        SMALL + "launch: {name: ray, storage: /workspace/models/pool}\n"
    )
    (tmp_path / "models" / "pool").mkdir()
    os.chown(tmp_path / "models" / "pool", 1234, 5678)
    ports = [f"--{name}-port=0" for name in ("node-manager", "object-manager", "metrics-export")]
    ports += [f"--dashboard-agent-{name}-port=0" for name in ("listen", "grpc")]
    ports += ["--runtime-env-agent-port=0", "--min-worker-port=11002", "--max-worker-port=11999"]
    at = "--node-ip-address=127.0.0.1"
    for name in ("head", "worker"):
        (tmp_path / name).mkdir()
    with (
        container(tmp_path / "head") as head,
        container(tmp_path / "worker") as worker,
    ):
        refused = head.run("ray-head", at)
        assert refused.returncode == 2
        assert "a cluster needs a token" in refused.stderr
        head.start("ray-head", at, mounts=mounts, env=env)
        until(lambda: status("http://127.0.0.1:8265/api/version"), f"the head\n{head.log}")
        join = ("ray-worker", "--address", "127.0.0.1", at, "--num-gpus=1", *ports)
        worker.start(*join, mounts=mounts, env=env)
        assert status("http://127.0.0.1:8265/api/version") in (401, 403)
        assert head.execute("python", "-P", "-m", "nlpkit_image.health").returncode == 0
        worker.waits_for("Ray runtime started")
        with container(tmp_path) as client:
            line = ("submit", "/workspace/data/config.yaml", "--wait", "--address")
            done = client.run(*line, "http://127.0.0.1:8265", mounts=mounts, env=env, timeout=300)
            assert done.returncode == 0, done.stderr + done.stdout
        head.stop()
        worker.stop()
    assert [*(tmp_path / "models" / "pool").glob("nlpkit-*/result.json")]
    for log in (head.log, worker.log):
        assert token.read_text() not in log


def test_a_teams_own_image_is_built_over_it(image, tmp_path):
    for name in ("Dockerfile", "requirements.txt", ".dockerignore"):
        source = REPOSITORY / "examples" / "image" / name
        (tmp_path / name).write_bytes(source.read_bytes())
    for name in ("bag.yaml", "my_model.py"):
        source = REPOSITORY / "examples" / "single_file_plugin" / name
        (tmp_path / name).write_bytes(source.read_bytes())
    text = (tmp_path / "Dockerfile").read_text().replace("nlpkit:0.2.0-torch2.7.1-cu128", IMAGE)
    (tmp_path / "Dockerfile").write_text(text)
    buildah("bud", "--isolation", "chroot", "--tag", "localhost/intents", tmp_path)
    with container(tmp_path, "localhost/intents") as team:
        done = team.run("check", "/workspace/project/bag.yaml")
        assert done.returncode == 0, done.stderr
        assert team.run("python", "-c", "import emoji, torch").returncode == 0
    buildah("rmi", "localhost/intents")


def test_the_notebook_of_the_workspace_runs(box, folders, tmp_path):
    line = ("jupyter", "nbconvert", "--to", "notebook", "--execute", "--output", "/tmp/done.ipynb")
    done = box.run(*line, "/workspace/notebooks/starter.ipynb", mounts=folders)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / "final" / "starter").exists()


def test_what_is_no_command_is_named(box):
    done = box.run("trian", "x.yaml")
    assert done.returncode == 2
    assert "trian: No such file or directory; name a command of nlpkit" in done.stderr


def test_a_run_that_is_stopped_saves_first(box, folders, tmp_path):
    (tmp_path / "data" / "config.yaml").write_text(SMALL.replace("epochs: 1", "epochs: 500"))
    box.start("train", "/workspace/data/config.yaml", mounts=folders)
    metrics = tmp_path / "models" / "runs" / "small" / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.stat().st_size, f"a step\n{box.log}")
    assert box.stop() == 128 + signal.SIGTERM
    assert "--resume" in box.log
    assert [*metrics.parent.glob("checkpoints/step-*")]
