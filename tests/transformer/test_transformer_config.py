from __future__ import annotations

import pytest
from pydantic import ValidationError

from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.pretrained import resolve


def test_heads_that_do_not_divide_hidden_are_refused_with_a_number_that_fits():
    with pytest.raises(ValidationError, match="hidden 100 is not a multiple of heads 8; try 96"):
        TransformerConfig(hidden=100, heads=8)


@pytest.mark.parametrize(
    "wrong", [{"layers": 0}, {"dropout": 1.0}, {"norm": "both"}, {"hiden": 1}, {"heads": "4"}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        TransformerConfig(**wrong)


def test_the_models_own_learning_rate_and_any_length():
    resolution = resolve(TransformerConfig())
    assert (resolution.learning_rate, resolution.max_length) == (5e-4, None)
    assert resolution.options == TransformerConfig()
