"""16 bits: what a GPU is bought for."""

from __future__ import annotations

import pytest
import torch

import nlpkit
from nlpkit.engine.precision import Precision, resolve_precision
from nlpkit.training.step import optimizer_step
from nlpkit_strategies.single import Single
from tests.gpu.devices import CUDA, DATA, EACH, config, train
from tests.laws.cases import CASES, build_module, examples
from tests.laws.experiment import (
    Recorder,
    micro_batches,
    plain_gradient,
    relative_difference,
    step_gradient,
)

HALVES = {"bf16": 2e-2, "fp16": 5e-3}


def scales(device: str, scale: float, steps: int) -> tuple[list[float], list[bool], list[bool]]:
    """The loss scale after each step, which steps were taken, and which overflowed."""
    case, single = CASES["class"], Single(torch.device(device))
    module = build_module(case, torch.float32).to(single.device)
    precision = Precision("fp16", device)
    precision.load_state({**precision.state(), "scale": scale, "growth_interval": 2})
    batches = micro_batches(case, examples(case, 8), 3, single)
    optimizer = Recorder(module.parameters(), lr=0.0)
    found = []
    for _ in range(steps):
        step = optimizer_step(batches, module, single, precision, optimizer, 1.0)
        found.append((precision.state()["scale"], step.taken, step.overflow))
    after, taken, overflow = (list(each) for each in zip(*found, strict=True))
    return after, taken, overflow


@pytest.mark.parametrize("device", EACH)
def test_the_loss_scale_of_fp16_grows_while_all_is_well(device):
    assert scales(device, 1024.0, 4) == ([1024.0, 2048.0, 2048.0, 4096.0], [True] * 4, [False] * 4)


@pytest.mark.parametrize("device", EACH)
def test_the_loss_scale_of_fp16_backs_off_and_the_step_is_left_out(device):
    after, taken, overflow = scales(device, 2.0**40, 3)
    assert after == [2.0**39, 2.0**38, 2.0**37]
    assert (taken, overflow) == ([False] * 3, [True] * 3)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("objective", CASES)
@pytest.mark.parametrize("device", EACH)
def test_gradient_in_16_bits_is_that_of_the_same_loss(device, objective, precision):
    case = CASES[objective]
    expected, _ = plain_gradient(case, 16, torch.float32)
    single = Single(torch.device(device))
    gradient, _ = step_gradient(case, 16, 3, single, torch.float32, precision=precision)
    assert relative_difference(gradient, expected) < HALVES[precision]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("device", [CUDA])
def test_a_run_in_16_bits_learns(device, precision, tmp_path):
    run = train(tmp_path / "run", device, precision)
    assert run.metrics["validation"]["accuracy"] == 1.0
    assert run.result["precision"] == precision
    assert run.result["skipped_steps"] == run.result["overflows"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_run_on_a_cpu_learns(precision, tmp_path):
    run = train(tmp_path / "run", "cpu", precision)
    assert run.metrics["validation"]["accuracy"] == 1.0
    assert (run.result["skipped_steps"], run.result["overflows"]) == (0, 0)


@pytest.mark.parametrize("device", [CUDA])
def test_overflows_of_a_run_in_fp16_are_counted_and_no_error(device, tmp_path):
    # The gradient of such an error, times the first loss scale, is too large for fp16.
    rows = [{**row, "label": 300.0 if row["label"] == "track" else -300.0} for row in DATA["train"]]
    task = {"name": "sequence", "target": "regression"}
    settings = config(device, "fp16", task=task, data={"validation": None})
    run = nlpkit.train(settings, data={"train": rows}, out=tmp_path / "run")
    assert 0 < run.result["overflows"] == run.result["skipped_steps"] < run.result["steps"]


@pytest.mark.parametrize("device", [CUDA])
def test_auto_takes_the_fastest_that_the_card_has(device, tmp_path):
    fast = torch.cuda.is_bf16_supported(including_emulation=False)
    expected = "bf16" if fast else "fp16"
    assert resolve_precision("auto", torch.device(device)).name == expected
    run = train(tmp_path / "run", device, "auto")
    assert run.result["precision"] == expected
    assert f"\nprecision: {expected}\n" in (run.path / "config.yaml").read_text()
