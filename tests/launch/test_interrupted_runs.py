"""`nlpkit train` on two ranks is interrupted in every way that there is, and goes on afterwards."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nlpkit
from tests.launch.plays import alive, wait_for
from tests.training.test_trainer import ROWS, config

pytestmark = pytest.mark.slow
NLPKIT = str(Path(sys.executable).with_name("nlpkit"))
STEPS = 120
DDP = {"name": "ddp", "devices": 2}


@pytest.fixture
def yaml(tmp_path):
    """A config of some seconds on two ranks."""
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "train.jsonl").write_text(rows)
    settings = config(
        strategy=DDP,
        data={"train": "train.jsonl"},
        train={"epochs": 15},
        loader={"workers": 1},
        observers=["progress"],
        model={"hidden": 64, "layers": 2},
    )
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    return tmp_path / "run.yaml"


def steps(folder: Path) -> list[int]:
    file = folder / "run" / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def start(yaml: Path, *more: str, **how) -> subprocess.Popen[str]:
    command = [NLPKIT, "train", str(yaml), "--out", str(yaml.parent / "run"), *more]
    return subprocess.Popen(command, text=True, start_new_session=True, **how)


def children(pid: int) -> list[int]:
    """The processes below one."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    own = [int(each) for each in found.stdout.split()]
    return own + [below for each in own for below in children(each)]


def goes_on(yaml: Path) -> None:
    """Resumes, and sees each step once."""
    done = start(yaml, "--resume", stderr=subprocess.PIPE)
    err = done.communicate(timeout=60)[1]
    assert done.returncode == 0, err
    assert steps(yaml.parent) == list(range(1, STEPS + 1))
    assert nlpkit.load(yaml.parent / "run").predict(["where is my parcel"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_signal_saves_leaves_and_can_be_resumed(yaml, number, everywhere):
    process = start(yaml, stderr=subprocess.PIPE)
    wait_for(lambda: len(steps(yaml.parent)) > 5)
    below = children(process.pid)
    assert len(below) == 4
    if everywhere:  # a control group's
        subprocess.run(["kill", f"-{int(number)}", *map(str, [*below, process.pid])], check=True)
    else:
        os.killpg(process.pid, number)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, err
    assert number.name in err
    assert "--resume" in err
    assert not any(map(alive, below))
    assert len(steps(yaml.parent)) < STEPS
    goes_on(yaml)


def test_a_killed_launchers_ranks_save_and_the_run_can_be_resumed(yaml):
    process = start(yaml, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(steps(yaml.parent)) > 5)
    below = children(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(alive, below)), 30)
    assert len(steps(yaml.parent)) < STEPS
    goes_on(yaml)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_terminal_that_closes_saves_and_leaves(yaml, ranks):
    """Nobody reads what is written from then on; writing it fails."""
    pid, terminal = pty.fork()
    if not pid:
        strategy = "single" if ranks == 1 else json.dumps(DDP)
        overrides = [f"strategy={strategy}", "--out", str(yaml.parent / "run")]
        os.execv(NLPKIT, [NLPKIT, "train", str(yaml), *overrides])
    shown = b""

    def read_some():
        nonlocal shown
        shown += os.read(terminal, 10_000)
        return len(steps(yaml.parent)) > 5

    wait_for(read_some)
    below = children(pid)
    os.close(terminal)
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 129, shown.decode()
    assert not any(map(alive, below))
    assert len(steps(yaml.parent)) < STEPS
    if ranks == 2:
        goes_on(yaml)


def test_under_nohup_a_terminal_that_closes_changes_nothing(yaml):
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with start(yaml, stderr=subprocess.PIPE, preexec_fn=ignore) as process:
        wait_for(lambda: len(steps(yaml.parent)) > 5)
        for pid in (process.pid, *children(process.pid)):
            os.kill(pid, signal.SIGHUP)
        assert process.wait(60) == 0
    assert steps(yaml.parent) == list(range(1, STEPS + 1))
