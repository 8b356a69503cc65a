"""Laws 1 and 5 where the tensors are: one device, two in one process, a process for each."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from nlpkit_strategies.data_parallel import DataParallel
from nlpkit_strategies.single import Single
from tests.gpu.devices import CUDA, TWO_GPUS
from tests.laws.cases import CASES
from tests.laws.evaluation_ranks import evaluations
from tests.laws.experiment import LIMITS, differences, run_ranks

NCCL_RANKS = [1, pytest.param(2, marks=TWO_GPUS)]
# Against a CPU, which adds up and takes exponentials in ways of its own.
LOSS_LIMITS = {"float64": 1e-12, "float32": 5e-6}
EVALUATION_LIMITS = {"float64": 1e-12, "float32": 1e-5}


@cache
def on_one(device: str) -> list[dict[str, Any]]:
    return differences(Single(torch.device(device)))


@cache
def on_ranks(device: str, ranks: int) -> Any:
    return run_ranks("tests.gpu.ranks_on_device", ranks, device)


def assert_exact(rows: list[dict[str, Any]], objective: str) -> None:
    own = [row for row in rows if row["objective"] == objective]
    assert own
    for row in own:
        assert row["gradient"] < LIMITS[row["dtype"]], row
        assert row["loss"] < LOSS_LIMITS[row["dtype"]], row


def assert_evaluated(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one["seen"] == other["seen"] == one["samples"]
        limit = EVALUATION_LIMITS[one["dtype"]]
        assert one["values"] == pytest.approx(other["values"], rel=limit, abs=limit), one


@pytest.mark.parametrize("objective", CASES)
@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), CUDA])
def test_gradient_on_a_device_is_the_whole_batchs_whatever_the_micro_batch(device, objective):
    assert_exact(on_one(device), objective)


@pytest.mark.parametrize("objective", CASES)
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=TWO_GPUS)])
def test_gradient_of_data_parallel_is_the_whole_batchs(device, objective):
    assert_exact(on_two(), objective)


@cache
def on_two() -> list[dict[str, Any]]:
    return differences(DataParallel([torch.device("cuda", 0), torch.device("cuda", 1)]))


@pytest.mark.parametrize("objective", CASES)
@pytest.mark.parametrize("ranks", NCCL_RANKS)
@pytest.mark.parametrize("device", [CUDA])
def test_gradient_of_ddp_over_nccl_is_the_whole_batchs(device, ranks, objective):
    assert_exact(on_ranks(device, ranks)["differences"], objective)


@pytest.mark.slow
def test_the_same_ranks_work_over_gloo():
    found = on_ranks("cpu", 2)
    for objective in CASES:
        assert_exact(found["differences"], objective)
    assert_evaluated(found["evaluations"], evaluations(Single(torch.device("cpu"))))


@pytest.mark.parametrize("ranks", NCCL_RANKS)
@pytest.mark.parametrize("device", [CUDA])
def test_evaluation_over_nccl_is_that_of_a_cpu(device, ranks):
    found = on_ranks(device, ranks)["evaluations"]
    assert_evaluated(found, evaluations(Single(torch.device("cpu"))))


@pytest.mark.parametrize("device", [CUDA])
def test_evaluation_on_a_device_is_that_of_a_cpu(device):
    found = evaluations(Single(torch.device(device)))
    assert_evaluated(found, evaluations(Single(torch.device("cpu"))))
