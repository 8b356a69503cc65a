from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from nlpkit.engine.precision import Precision
from nlpkit.training.step import optimizer_step
from nlpkit_strategies.single import Single
from tests.laws.cases import CASES, DTYPES, build_module, collate, examples
from tests.laws.experiment import (
    LIMITS,
    MICRO_BATCHES,
    SAMPLES,
    Recorder,
    differences,
    on_one,
    plain_gradient,
    relative_difference,
    run_ranks,
    step_gradient,
)

HALVES = {"fp16": 5e-3, "bf16": 2e-2}


@cache
def found(ranks: int) -> list[dict[str, Any]]:
    return run_ranks("tests.laws.experiment", ranks) if ranks > 1 else on_one(differences)


@pytest.mark.parametrize("ranks", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", CASES)
def test_gradient_and_loss_are_the_whole_batchs_however_it_is_split(objective, dtype, ranks):
    rows = [row for row in found(ranks) if (row["objective"], row["dtype"]) == (objective, dtype)]
    assert len(rows) == len(MICRO_BATCHES) * len(SAMPLES)
    for row in rows:
        assert row["gradient"] < LIMITS[dtype], row
        assert row["loss"] < 1e-6, row


@pytest.mark.parametrize("micro", MICRO_BATCHES)
@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("objective", CASES)
def test_in_16_bits_the_gradient_is_that_of_the_same_loss(objective, precision, micro):
    case, single = CASES[objective], Single(torch.device("cpu"))
    expected, loss = plain_gradient(case, 16, torch.float32)
    gradient, found_loss = step_gradient(
        case, 16, micro, single, torch.float32, precision=precision
    )
    assert relative_difference(gradient, expected) < HALVES[precision]
    assert found_loss == pytest.approx(loss, rel=HALVES[precision])


@pytest.mark.parametrize("objective", CASES)
def test_the_scale_of_fp16_is_gone_before_the_gradient_is_clipped(objective):
    case, single = CASES[objective], Single(torch.device("cpu"))
    expected, _ = plain_gradient(case, 16, torch.float32)
    clipped, _ = step_gradient(case, 16, 3, single, torch.float32, precision="fp16", max_norm=0.05)
    assert relative_difference(clipped, expected * (0.05 / expected.norm())) < HALVES["fp16"]


@pytest.mark.parametrize("precision", HALVES)
def test_a_float64_model_stays_in_float64_whatever_the_precision(precision):
    case, single = CASES["class"], Single(torch.device("cpu"))
    expected, _ = plain_gradient(case, 16, torch.float64)
    gradient, _ = step_gradient(case, 16, 3, single, torch.float64, precision=precision)
    assert relative_difference(gradient, expected) < LIMITS["float64"]


def test_step_whose_samples_all_weigh_nothing_leaves_the_weights_alone():
    case = CASES["row weights"]
    rows = [{**row, "weight": np.float64(0)} for row in examples(case, 4)]
    module = build_module(case, torch.float64)
    before = [p.detach().clone() for p in module.parameters()]
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    single, precision = Single(torch.device("cpu")), Precision("fp32", "cpu")
    step = optimizer_step([collate(case, rows)], module, single, precision, optimizer, 1.0)
    assert (step.taken, step.loss, step.norm) == (False, 0.0, 0.0)
    assert all(map(torch.equal, before, module.parameters()))


def test_stop_flag_comes_back_with_the_step():
    case = CASES["class"]
    module = build_module(case, torch.float64)
    recorder = Recorder(module.parameters(), lr=0.0)
    single, precision = Single(torch.device("cpu")), Precision("fp32", "cpu")
    batches = [collate(case, examples(case, 4))]
    for stop in (False, True):
        step = optimizer_step(batches, module, single, precision, recorder, 1.0, stop=stop)
        assert step.stopping is stop
