"""`nlpkit doctor` on this machine, and on others that are made up."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nlpkit.cli.main import main
from nlpkit_doctor import machine
from tests.doctor.test_judge import WELL


def test_it_looks_at_this_machine(capsys):
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    facts = report["facts"]
    assert code == (1 if report["failures"] else 0)
    assert facts["python"].endswith(sys.executable)
    assert facts["torch"]["version"] == torch.__version__
    assert facts["torch"]["available"] == torch.cuda.is_available()
    assert facts["torch"]["faults"] == []
    assert facts["torch"]["matmul"].keys() >= {"fp32", "bf16"}
    assert all(
        rate > 0 for rate in (*facts["torch"]["matmul"].values(), facts["torch"]["rates"]["copy"])
    )
    assert facts["cores"][0] >= 1
    assert facts["memory"][0] > 10**8
    assert facts["plugins"][1] == []
    assert {finding["state"] for finding in report["findings"]} <= {"ok", "warning", "failure"}


@pytest.mark.parametrize(
    ("facts", "code", "last"),
    [
        (WELL, 0, "all is well"),
        (replace(WELL, files=(1024, 1024)), 0, "1 warning"),
        (replace(WELL, plugins=(0, ("a", "b")), files=(1024, 1024)), 1, "1 failure, 1 warning"),
    ],
)
def test_failures_alone_give_exit_code_1(facts, code, last, capsys, monkeypatch):
    monkeypatch.setattr("nlpkit_doctor.command.look", lambda: facts)
    assert main(["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "CUDA available: yes",
        "GPU count:      1",
        "Current GPU:    0",
        "GPU name:       H100",
        "GPU memory:     85.0 GB",
    ]
    assert lines[-1] == last


def test_it_works_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    code = "import sys; from nlpkit.cli.main import main; sys.exit(main(['doctor', '--json']))"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    report = json.loads(done.stdout)
    assert report["facts"]["torch"] is None
    assert report["facts"]["torch_fault"] == ""


@pytest.mark.parametrize(
    ("crash", "said"),
    [
        ("import os; os.kill(os.getpid(), 7)", "ended with signal 7: it said nothing"),
        ("raise OSError('libcudart.so.12: cannot open')", "libcudart.so.12: cannot open"),
        ("raise RuntimeError('CUDA error: out\\nCompile with')", "RuntimeError: CUDA error: out"),
        ("import time; time.sleep(60)", "did not answer within 1 s"),
    ],
)
def test_a_torch_that_crashes_or_hangs_is_named(crash, said, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text(crash)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(machine, "_TORCH", 1 if "sleep" in crash else 60)
    found, fault = machine._torch()
    assert found is None
    assert said in fault


SMI = """#!/bin/sh
case "$1" in
  *gpu=*) echo "WARNING: infoROM is corrupted, badly, at, gpu 0000:00:1E.0"
    echo "15360, 512, 535.104.05, NVIDIA T4"
    printf '15360, [N/A], 535.104.05, NVIDIA, Tesla\\302\\256 \\256, T4\\n' ;;
  *) echo "4711, 500" ;;
esac
"""


def test_the_driver_is_asked_through_its_own_program(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    driver, fault = machine._driver()
    assert driver is not None
    assert fault == ""
    assert driver.version == "535.104.05"
    assert [(gpu.name, gpu.memory, gpu.used) for gpu in driver.gpus] == [
        ("NVIDIA T4", 15360 * 2**20, 512 * 2**20),
        ("NVIDIA, Tesla® \ufffd, T4", 15360 * 2**20, 0),
    ]
    assert driver.processes == ((4711, 500 * 2**20),)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo NVIDIA-SMI has failed; exit 9", "nvidia-smi: NVIDIA-SMI has failed"),
        ("echo No devices were found", "nvidia-smi: No devices were found"),
    ],
)
def test_a_driver_that_does_not_answer_is_none(script, said, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert machine._driver() == (None, said)


class Dashboard(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        allowed = self.headers["Authorization"] == "Bearer right"
        self.send_response(200 if allowed and self.path == "/api/version" else 401)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def dashboard():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("token", "fault"), [("right", ""), ("wrong", "wants another token")])
def test_a_dashboard_is_asked_with_the_token(token, fault, dashboard, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", dashboard)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert machine._ray() == (dashboard, fault)
    monkeypatch.setenv("RAY_ADDRESS", f"{dashboard}/")
    assert machine._ray() == (dashboard, fault)


def test_no_token_goes_in_clear_to_another_machine(dashboard, monkeypatch):
    elsewhere = dashboard.replace("127.0.0.1", "0.0.0.0")  # this machine, not loopback
    monkeypatch.setenv("RAY_ADDRESS", elsewhere)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    assert machine._ray() == (elsewhere, "wants a token, which http would show")


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", "127.0.0.1:6379", "ray://127.0.0.1:10001", "auto"]
)
def test_a_dashboard_that_is_not_there_does_not_answer(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    asked, fault = machine._ray() or ("", "")
    assert asked == (address if address.startswith("http") else "http://127.0.0.1:8265")
    assert fault.startswith("does not answer")


@pytest.mark.parametrize("address", ["http://[::1", "http://a b", "http://127.0.0.1:x"])
def test_an_address_that_is_none_does_not_answer(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    _, fault = machine._ray() or ("", "")
    assert fault.startswith("does not answer")


def test_a_report_comes_whatever_the_machine_is(tmp_path, monkeypatch, capsys):
    """Each look may fail: a folder that may not be looked into, a file that is no text."""

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", "/root")

    monkeypatch.setattr(machine.shutil, "disk_usage", refuse)
    monkeypatch.setattr(machine.os, "walk", refuse)
    monkeypatch.setattr(machine, "Host", None)
    monkeypatch.setattr(machine, "_torch", lambda: (None, ""))
    main(["doctor"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "warning disks PermissionError: [Errno 13] Permission denied: '/root'" in lines
    assert "warning plugins AttributeError: 'NoneType' object has no attribute 'discover'" in lines
    assert "failure plugins could not be listed" in lines
    assert "failure" in lines[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_folder_that_may_not_be_looked_into_is_on_the_disk_above(tmp_path, monkeypatch):
    monkeypatch.setenv("NLPKIT_RUNS", str(tmp_path / "closed" / "runs"))
    (tmp_path / "closed").mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        found = machine._disks()
    finally:
        os.seteuid(0)
    assert found[0][:2] == ("runs", str(tmp_path / "closed" / "runs"))


def test_a_cache_counts_each_file_once(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a").write_bytes(bytes(1000))
    (tmp_path / "link").symlink_to(tmp_path / "blobs" / "a")
    assert machine._size(tmp_path) == 1000


def test_folders_that_do_not_exist_yet_are_on_the_disk_above(tmp_path, monkeypatch):
    monkeypatch.setenv("NLPKIT_RUNS", str(tmp_path / "a" / "b"))
    what, path, free = machine._disks()[0]
    assert (what, path) == ("runs", str(tmp_path / "a" / "b"))
    assert free > 0
    assert not Path(path).exists()
