"""A token is drawn as the softmax says, from the set that transformers' filters leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from nlpkit.data.plan import hashes
from nlpkit.engine.choose import best, drawn, kept, log_sums
from nlpkit.engine.settings import Settings
from nlpkit.engine.torch import TorchEngine
from nlpkit.errors import NonFiniteError

SUMS = [log_sums, TorchEngine.log_sums]
both = pytest.mark.parametrize("sums", SUMS, ids=["numpy", "torch"])

LogSums = Callable[[np.ndarray], list[float]]


def settings(**values: Any) -> Settings:
    return Settings(method="sample", **values)


def row(vocabulary: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(vocabulary)).astype(np.float32)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    shares = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    return shares / shares.sum()


def chi_square(found: np.ndarray, expected: np.ndarray) -> float:
    return float(((found - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_fit_the_softmax(temperature: float) -> None:
    logits, draws = row(12, scale=1.0), 2_000
    options = settings(temperature=temperature)
    ids = [drawn(logits, options, 5, place) for place in range(draws)]
    found = np.bincount(ids, minlength=12)
    assert chi_square(found, draws * softmax(logits, temperature)) < 31.3  # 0.999 of 11 degrees


def test_what_is_drawn_at_two_places_is_independent_and_for_two_seeds_too() -> None:
    logits, draws = np.zeros(4, np.float32), 1_000
    seeds = [drawn(logits, settings(), seed, 0) for seed in range(draws)]
    places = [drawn(logits, settings(), 0, place) for place in range(draws)]
    ids = np.array([seeds, places])
    for pairs in (ids, *(np.stack((each[:-1], each[1:])) for each in ids)):
        found = np.bincount(4 * pairs[0] + pairs[1], minlength=16)
        assert chi_square(found, np.full(16, pairs.shape[1] / 16)) < 37.7  # 0.999 of 15


@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0, 1000.0])
def test_it_is_the_largest_of_all_scores_with_noise(scale: float) -> None:
    for seed in range(20):
        logits, temperature = row(10_000, seed, scale), 0.5 + seed / 10
        chances = ((hashes(np.arange(10_000), seed, 7) >> np.uint64(12)) + 0.5) / 2**52
        noise = -np.log(-np.log1p(-chances))
        expected = (logits.astype(np.float64) / temperature + noise).argmax()
        assert drawn(logits, settings(temperature=temperature), seed, 7) == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_k", [None, 2, 20, 500])
@pytest.mark.parametrize("top_p", [None, 1e-9, 0.3, 0.9, 0.999, 1.0])
def test_the_set_is_that_of_transformers_filters(
    seed: int, top_k: int | None, top_p: float | None
) -> None:
    logits, temperature = row(300, seed), 0.7
    filters = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        filters.append(TopKLogitsWarper(top_k))
    if top_p:
        filters.append(TopPLogitsWarper(top_p))
    left = filters(torch.zeros(1, 1, dtype=torch.long), torch.from_numpy(logits)[None].double())
    expected = np.flatnonzero(np.isfinite(left[0].numpy()))
    assert kept(logits, settings(temperature=temperature, top_k=top_k, top_p=top_p)).tolist() == (
        expected.tolist()
    )


def test_the_token_that_crosses_p_is_in_and_the_next_is_not() -> None:
    logits = np.log(np.array([0.125, 0.5, 0.25, 0.125], np.float32))
    for top_p, ids in ((0.4, [1]), (0.5, [1]), (0.51, [1, 2]), (0.75, [1, 2]), (0.8, [0, 1, 2])):
        assert kept(logits, settings(top_p=top_p)).tolist() == ids


def test_only_what_is_kept_is_drawn() -> None:
    logits = row(50, scale=0.5)
    options = settings(top_k=10, top_p=0.7)
    ids = set(kept(logits, options).tolist())
    assert {drawn(logits, options, seed, 0) for seed in range(400)} == ids
    assert len(ids) < 10


def test_of_equal_scores_the_first_are_taken() -> None:
    scores = np.array([1, 3, 2, 3, 2, 2], np.float32)
    for count, places in enumerate([[1], [1, 3], [1, 2, 3], [1, 2, 3, 4]], start=1):
        assert best(scores, count).tolist() == places
    assert best(scores, 9).tolist() == list(range(6))
    assert kept(np.zeros(5, np.float32), settings(top_p=0.5)).tolist() == [0, 1, 2]


def test_masked_logits_are_never_drawn() -> None:
    for masked in (-np.inf, np.finfo(np.float32).min):
        logits = np.full(30, masked, np.float32)
        logits[[4, 7]] = 0
        for options in (settings(temperature=0.3), settings(top_p=0.99), settings(top_k=20)):
            assert {drawn(logits, options, seed, 0) for seed in range(50)} == {4, 7}


def test_a_vocabulary_of_one_is_drawn() -> None:
    assert drawn(np.zeros(1, np.float32), settings(), 0, 0) == 0


@both
def test_a_log_probability_is_exact_to_1e_6(sums: LogSums) -> None:
    logits = np.stack([row(50_257, scale=scale) for scale in (0.0, 1.0, 30.0)])
    wide = logits.astype(np.float64)
    tops = wide.max(axis=1)
    exact = tops + np.log(np.exp(wide - tops[:, None]).sum(axis=1))
    assert sums(logits) == pytest.approx(exact.tolist(), abs=1e-6)


@both
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error_that_says_so(sums: LogSums, value: float) -> None:
    logits = np.stack([row(20), row(20)])
    logits[1, 11] = value
    with pytest.raises(NonFiniteError, match=r"logits that are no numbers .*precision fp32"):
        sums(logits)
