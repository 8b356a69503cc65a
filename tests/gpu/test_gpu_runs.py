"""Whole runs: killed and resumed, and on more devices than one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nlpkit
from tests.gpu.devices import CUDA, FOUND, ONE_GPU, STEPS, TWO_GPUS, difference, train

ROOT = Path(__file__).parents[2]
RESUMED = [
    pytest.param("cpu", "fp32", marks=pytest.mark.slow),
    pytest.param("cuda", "fp32", marks=ONE_GPU),
    pytest.param("cuda", "bf16", marks=ONE_GPU),
    pytest.param("cuda", "fp16", marks=ONE_GPU),
]
SPREAD = [
    pytest.param("cpu", {"name": "ddp", "devices": 2}, marks=pytest.mark.slow),
    pytest.param("cuda", {"name": "ddp", "devices": 1}, marks=ONE_GPU),
    pytest.param("cuda", {"name": "ddp", "devices": 2}, marks=TWO_GPUS),
    pytest.param("cuda", {"name": "data_parallel", "devices": 2}, marks=TWO_GPUS),
]


def in_a_process(*arguments: object) -> int:
    command = [sys.executable, "-m", "tests.gpu.deterministic_run", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize(("device", "precision"), RESUMED)
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    device, precision, tmp_path
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_a_process(whole, device, precision) == 0
    assert in_a_process(killed, device, precision, 13) == -signal.SIGKILL
    assert not (killed / "result.json").exists()
    assert any((killed / "checkpoints").glob("step-*"))
    assert in_a_process(killed, device, precision) == 0
    assert nlpkit.Run(killed).result["steps"] == STEPS
    apart = difference(whole, killed)
    assert apart == 0.0, f"not exact to the bit on this device: |w − w'| / |w| is {apart:.1e}"


@pytest.mark.parametrize(("device", "strategy"), SPREAD)
def test_steps_on_several_devices_are_those_of_one(device, strategy, tmp_path):
    alone, spread = (
        train(tmp_path / name, device, "fp32", dropout=0.0, rate=5e-4, **changes)
        for name, changes in (("alone", {}), ("spread", {"strategy": strategy}))
    )
    lines = [
        [line for line in run.history if line["split"] == "train"][:10] for run in (alone, spread)
    ]
    assert len(lines[0]) == 10
    for one, other in zip(*lines, strict=True):
        for name in ("loss", "grad_norm"):
            assert other[name] == pytest.approx(one[name], rel=1e-5), (name, one, other)
    for name, value in alone.metrics["validation"].items():
        assert spread.metrics["validation"][name] == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("device", [CUDA])
def test_bundle_of_a_gpu_predicts_on_a_cpu(device, tmp_path):
    run = train(tmp_path / "run", device, "bf16")
    texts = ["my parcel", "money"]
    on_gpu = nlpkit.load(run.path, device=device).predict(texts)
    on_cpu = nlpkit.load(run.path, device="cpu").predict(texts)
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert one.label == other.label
        assert one.score == pytest.approx(other.score, abs=1e-4)


@pytest.mark.parametrize("device", [CUDA])
def test_a_gpu_that_is_not_there_is_an_error_with_a_remedy(device, tmp_path):
    with pytest.raises(nlpkit.ConfigError, match=f"{FOUND} CUDA device.*use device"):
        train(tmp_path / "run", f"{device}:{FOUND}", "fp32")
