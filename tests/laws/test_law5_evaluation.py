from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.laws.cases import CASES, DTYPES, build_module, collate, examples, plain_logits
from tests.laws.evaluation_ranks import OBJECTIVES, SAMPLES, evaluations
from tests.laws.experiment import on_one, run_ranks

LIMITS = {"float64": 1e-12, "float32": 1e-6}


@cache
def found(ranks: int) -> list[dict[str, Any]]:
    module = "tests.laws.evaluation_ranks"
    return run_ranks(module, ranks) if ranks > 1 else on_one(evaluations)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_evaluation_is_the_same_number_on_any_number_of_ranks(ranks):
    assert len(found(1)) == len(OBJECTIVES) * len(SAMPLES) * len(LIMITS)
    for alone, together in zip(found(1), found(ranks), strict=True):
        assert together["seen"] == alone["seen"] == alone["samples"]
        for name, value in alone["values"].items():
            limit = LIMITS[alone["dtype"]]
            assert together["values"][name] == pytest.approx(value, rel=limit, abs=limit), alone


def test_the_loss_of_an_evaluation_is_that_of_all_its_samples_at_once():
    for row in found(1):
        case = CASES[row["objective"]]
        batch = collate(case, examples(case, row["samples"]), evaluated=True)
        model = build_module(case, DTYPES[row["dtype"]]).model
        plain = case.plain(plain_logits(model, batch), batch).item()
        assert row["values"]["loss"] == pytest.approx(plain, rel=LIMITS[row["dtype"]]), row
