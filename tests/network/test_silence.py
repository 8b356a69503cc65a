"""Nothing phones home: no command asks the network for what its user has not asked for."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
import requests

from tests.conftest import REPOSITORY
from tests.network.watching import Watched
from tests.serve.serving import Server

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
name: quiet
data: sample
tokenizer: wordpiece
model: {name: transformer, layers: 1, hidden: 16, heads: 2}
train: {max_steps: 2}
launch: {name: ray, gpus_per_worker: 0}
"""
CLOUD = "169.254.169.254"
OF_RAY = {"8.8.8.8 53", f"{CLOUD} 80", f"{CLOUD} name", "metadata.google.internal name"}
"""What a local cluster looks at, whatever it is told: which address would lead to another network,
nothing is sent there, and in which cloud it is, which a machine of that cloud alone answers."""


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.mark.slow
def test_demo_export_predict_and_serve_ask_nobody_and_leave_the_home_empty(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", watched.environment)
    run = tmp_path / "demo"
    watched.run("demo", "--out", run, native=True)
    watched.run("export", run, "onnx", "quantize=int8", native=True)
    for backend in ("torch", "onnx"):
        watched.run("predict", run, "where is it?", "--backend", backend, native=True)
        with Server(run, tmp_path / "log", "--backend", backend) as server:
            assert server.ask({"texts": ["where is it?"]})[0] == 200
    assert watched.strangers() == set()
    assert list(watched.home.iterdir()) == []


@pytest.mark.slow
def test_a_run_on_a_local_cluster_asks_nobody_but_for_what_ray_cannot_leave(
    watched: Watched, tmp_path: Path
) -> None:
    (tmp_path / "quiet.yaml").write_text(CONFIG)
    watched.run("submit", tmp_path / "quiet.yaml")
    assert watched.strangers() <= OF_RAY


def test_a_head_does_not_even_report_that_it_reports_nothing(tmp_path: Path) -> None:
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\necho "$RAY_USAGE_STATS_ENABLED $RAY_USAGE_STATS_REPORT_URL"\n')
    ray.chmod(0o755)
    line = ["sh", REPOSITORY / "jobs" / "head.sh", "127.0.0.1"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    enabled, url = subprocess.check_output(line, env=environment, text=True).split()
    assert enabled == "0"
    with pytest.raises(requests.exceptions.MissingSchema):
        requests.post(url)
