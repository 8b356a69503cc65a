from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nlpkit.errors import ConfigError
from nlpkit_strategies.config import DataParallelConfig
from nlpkit_strategies.data_parallel import DataParallel, SplitAndSum, build
from tests.laws.cases import CASES, DTYPES
from tests.laws.experiment import (
    LIMITS,
    MICRO_BATCHES,
    SAMPLES,
    plain_gradient,
    relative_difference,
    step_gradient,
)

CPU = torch.device("cpu")


def replicate(module: nn.Module, devices: Any) -> list[nn.Module]:
    """`torch.nn.parallel.replicate` where there are no GPUs: the replicas have no parameters of
    their own, and their gradients add up in the module's."""
    return [_replica(module) for _ in devices]


def _replica(module: nn.Module) -> nn.Module:
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        replica._modules[name] = None if child is None else _replica(child)
    for name, parameter in module._parameters.items():
        setattr(replica, name, None if parameter is None else parameter.view_as(parameter))
    return replica


class OnCpus(DataParallel):
    """Data parallel over chunks that stay on the CPU."""

    def wrap(self, module: nn.Module) -> nn.Module:
        return SplitAndSum(module, self.devices, replicate)


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("chunks", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", CASES)
def test_gradient_and_loss_are_the_whole_batchs_in_any_number_of_chunks(
    objective, dtype, chunks, samples
):
    case = CASES[objective]
    expected, loss = plain_gradient(case, samples, DTYPES[dtype])
    for micro in MICRO_BATCHES:  # of 1 and 3 samples: fewer than chunks, or just as many
        gradient, found = step_gradient(case, samples, micro, OnCpus([CPU] * chunks), DTYPES[dtype])
        assert relative_difference(gradient, expected) < LIMITS[dtype]
        assert found == pytest.approx(loss, rel=1e-6)


class Witness(nn.Module):
    """Tells how many rows each replica was given, in which type it computed, and whether with
    gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.seen: list[tuple[int, torch.dtype, bool]] = []

    def forward(self, inputs: Any, targets: Any, rows: Any) -> torch.Tensor:
        out = self.linear(inputs["x"])
        self.seen.append((len(inputs["x"]), out.dtype, torch.is_grad_enabled()))
        return (out * targets["y"]).sum().reshape(1)


def witness(rows: int, chunks: int) -> tuple[Witness, torch.Tensor]:
    module = Witness()
    total = SplitAndSum(module, [CPU] * chunks, replicate)(
        {"x": torch.ones(rows, 2)}, {"y": torch.ones(rows, 1)}
    )
    return module, total


@pytest.mark.parametrize(
    ("rows", "shares"), [(7, [2, 2, 3]), (3, [1, 1, 1]), (2, [1, 1]), (1, [1])]
)
def test_rows_are_split_evenly_and_no_replica_is_empty(rows, shares):
    module, total = witness(rows, 3)
    assert sorted(share for share, _, _ in module.seen) == shares
    assert total.shape == (1,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_replica_computes_in_the_type_of_the_autocast_around_the_step(dtype):
    with torch.autocast("cpu", dtype=dtype):
        module, _ = witness(4, 2)
    assert {found for _, found, _ in module.seen} == {dtype}
    module, _ = witness(4, 2)
    assert {found for _, found, _ in module.seen} == {torch.float32}


def test_a_step_without_gradients_has_none_in_any_replica():
    with torch.no_grad():
        module, total = witness(4, 2)
    assert not total.requires_grad
    assert {graded for _, _, graded in module.seen} == {False}


def test_an_error_in_a_replica_is_the_models_own():
    with pytest.raises(KeyError, match="x"):
        SplitAndSum(Witness(), [CPU] * 2, replicate)({"z": torch.ones(4, 2)}, {})


@pytest.mark.parametrize("devices", ["all", 2])
def test_on_a_cpu_it_is_refused_and_single_named(devices):
    message = "strategy: data_parallel is for 2 GPUs and more, not for 0; use strategy: single"
    with pytest.raises(ConfigError, match=message):
        build(DataParallelConfig(devices=devices), CPU)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("devices", "device", "taken"),
    [("all", "cuda", [0, 1, 2, 3]), (2, "cuda:1", [1, 2]), (3, "cuda:3", [3, 0, 1])],
)
def test_it_takes_the_device_and_those_after_it(devices, device, taken):
    strategy = build(DataParallelConfig(devices=devices), torch.device(device))
    assert [each.index for each in strategy.devices] == taken
    assert strategy.device == torch.device("cuda", taken[0])
    assert (strategy.size, strategy.replicas) == (1, len(taken))
    assert "ddp is faster" in strategy.notes[0]


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (1, "strategy: data_parallel is for 2 GPUs and more, not for 1; use strategy: single"),
        (5, "strategy.devices: 5 GPUs are wanted, 4 found; set all, or at most 4"),
    ],
)
def test_too_few_and_too_many_devices_are_errors_with_a_remedy(devices, message):
    with pytest.raises(ConfigError, match=message):
        build(DataParallelConfig(devices=devices), torch.device("cuda"))
