"""`torchrun -m nlpkit.worker RUN_DIR`: the same entry, started by a stranger."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nlpkit
from tests.launch.plays import wait_for
from tests.training.test_trainer import ROWS, config

pytestmark = pytest.mark.slow
WAYWARD = str(Path(__file__).with_name("wayward.py"))
DDP = {"name": "ddp", "devices": 2}


def prepared(out: Path, **changes) -> Path:
    """A run folder as a launcher finds it: of a run that failed before a checkpoint."""
    settings = config(plugins=[WAYWARD], **changes)
    model = {"name": "wayward", "fate": {"0": "raise", "1": "raise"}, "step": 2}
    with pytest.raises(nlpkit.PluginError, match="at fault"):
        nlpkit.train({**settings, "model": model}, data={"train": ROWS}, out=out)
    text = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(text.replace("step: 2", "step: -1"))
    return out


@pytest.fixture
def torchrun():
    """Starts a run folder on two ranks."""
    started = []

    def start(run: Path) -> subprocess.Popen[str]:
        module = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
        command = [*module, "--nproc-per-node", "2", "-m", "nlpkit.worker", str(run)]
        started.append(
            subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.communicate()


def steps(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def test_torchrun_trains_and_goes_on_after_a_sigterm(tmp_path, torchrun):
    run = prepared(tmp_path / "run", strategy=DDP, train={"epochs": 100})
    process = torchrun(run)
    wait_for(lambda: len(steps(run)) > 5, 60)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1]
    assert time.monotonic() - started < 20, err
    assert process.returncode != 0
    saved = steps(run)[-1]
    assert saved < 800
    assert list((run / "checkpoints").glob(f"step-*{saved}"))

    process = torchrun(run)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 0, err
    assert steps(run) == list(range(1, 801))
    assert nlpkit.load(run, trust_plugins=True).predict(["where is my parcel"])


def test_a_strategy_of_one_process_is_refused_on_two(tmp_path, torchrun):
    run = prepared(tmp_path / "run")
    process = torchrun(run)
    err = process.communicate(timeout=60)[1]
    assert process.returncode
    assert "error: " in err
    assert '"single" trains in one process, and 2 were started; use strategy: ddp' in err


def test_a_worker_by_itself_exits_as_the_command_line_does(tmp_path):
    worker = [sys.executable, "-m", "nlpkit.worker"]

    def codes(*arguments):
        done = subprocess.run([*worker, *arguments], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert codes() == (2, "error: which run? `python -m nlpkit.worker RUN_DIR`\n")
    code, err = codes(str(tmp_path / "nowhere"))
    assert code == 2
    assert "there is no such file" in err
    code, err = codes(str(prepared(tmp_path / "ddp", strategy=DDP)))
    assert code == 2
    assert "`nlpkit train`, or `torchrun" in err
    assert codes(str(prepared(tmp_path / "single")))[0] == 0
