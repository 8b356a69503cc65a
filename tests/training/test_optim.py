from __future__ import annotations

import pytest
import torch

from nlpkit.config.schema import TrainConfig
from nlpkit.training.optim import adamw, learning_rate


def rates(total: int, **options: object) -> list[float]:
    train = TrainConfig(**options)  # type: ignore[arg-type]
    return [learning_rate(step, total=total, peak=1.0, train=train) for step in range(total)]


def test_linear_schedule_warms_up_to_the_peak_and_ends_just_above_nothing():
    found = rates(20, warmup_ratio=0.2)
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[-1] == pytest.approx(1 / 16)
    assert found[4:] == sorted(found[4:], reverse=True)


def test_cosine_schedule_is_half_way_down_in_the_middle():
    found = rates(100, warmup_ratio=0, schedule="cosine")
    assert (found[0], found[50]) == (1.0, pytest.approx(0.5))
    assert 0 < found[-1] < 0.001


def test_constant_schedule_stays_at_the_peak_after_warm_up():
    assert rates(10, warmup_ratio=0.1, schedule="constant") == [1.0] * 10


def test_warm_up_may_take_the_whole_run():
    assert rates(4, warmup_ratio=1.0) == [0.25, 0.5, 0.75, 1.0]


def test_vectors_and_frozen_parameters_are_not_decayed():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    model[1].weight.requires_grad_(False)
    decayed, plain = adamw(model, weight_decay=0.1).param_groups
    assert [p.shape for p in decayed["params"]] == [(3, 2)]
    assert [p.shape for p in plain["params"]] == [(3,), (1,)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert decayed["fused"]
