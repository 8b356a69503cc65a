"""A run that was begun before a key was there goes on as it began."""

from __future__ import annotations

import pytest

import nlpkit
from nlpkit.checkpoint.resume import differences
from tests.training.test_trainer import config


@pytest.mark.parametrize(("betas", "said"), [([0.9, 0.999], []), ([0.9, 0.98], ["train.betas"])])
def test_a_key_that_there_was_not_yet_counts_as_what_was_so(betas, said):
    now = nlpkit.load_config(config(train={"betas": betas}))
    stored = now.model_dump(mode="json")
    for name in ("betas", "epsilon", "warmup_steps"):
        del stored["train"][name]
    del stored["eval"]["generated_rows"]
    found = differences(now, {}, {"config": stored, "data": {}})
    assert [problem.key for problem in found] == said
