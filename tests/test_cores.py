"""Cores that other programs compute on too: waiting threads sleep there, and spin elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nlpkit.engine import cores
from nlpkit.environment import usable_cores

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="this kernel does not count waits"
)

CONTENDED = """
import os, subprocess, sys, time, torch
from nlpkit.engine import cores

def until(met):
    end = time.monotonic() + 20
    while not met(len(os.listdir("/proc/self/task"))):
        assert time.monotonic() < end, "it did not come"
        square @ square

torch.set_num_threads(int(sys.argv[1]))
square = torch.ones(300, 300)
square @ square
cores.share()
cores.share()
alone = len(os.listdir("/proc/self/task"))
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * cores_here)]
try:
    until(lambda threads: threads > alone)
finally:
    for each in busy:
        each.kill()
        each.wait()
cores._times = lambda: {"1": (time.monotonic_ns(), 0)}  # as it is where nobody else computes
until(lambda threads: threads == alone)
"""

TRAINED = """
name: cores
data: sample
task: {name: sequence, label: label}
tokenizer: wordpiece
model: {name: transformer, layers: 2, hidden: 128}
train: {epochs: 40, max_steps: 800}
eval: {every: 800}
"""

CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def unchosen(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in CHOSEN}
    return {**kept, **more}


def test_threads_sleep_while_others_compute_here_and_spin_again_afterwards() -> None:
    script = CONTENDED.replace("cores_here", str(usable_cores()))
    done = subprocess.run(
        [sys.executable, "-c", script, str(usable_cores())],
        env=unchosen(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", CHOSEN)
def test_who_has_chosen_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_started", False)
    monkeypatch.setenv(name, "1000")
    cores.share()
    assert not cores._started


@pytest.mark.slow
def test_two_trainings_make_together_more_than_one_alone(tmp_path: Path) -> None:
    config = tmp_path / "cores.yaml"
    config.write_text(TRAINED, encoding="utf-8")

    def speed(*names: str) -> float:
        train = [Path(sys.executable).with_name("nlpkit"), "train", config, "--out"]
        environment = unchosen()
        environment.pop("OMP_NUM_THREADS", None)
        started = [subprocess.Popen([*train, tmp_path / name], env=environment) for name in names]
        assert [each.wait() for each in started] == [0] * len(names)
        results = [json.loads((tmp_path / name / "result.json").read_text()) for name in names]
        return sum(each["samples_per_second"] for each in results)

    alone = speed("alone")
    assert speed("one", "two") >= 1.3 * alone
