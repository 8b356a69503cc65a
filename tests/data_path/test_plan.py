from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.data.plan import evaluation_plan, mix, plan, sample_seeds, share

LENGTHS = st.lists(st.integers(1, 50), max_size=400).map(lambda values: np.array(values, np.int64))
SIZES = st.integers(1, 40)


@given(lengths=LENGTHS, batch_size=SIZES, bucketing=st.booleans(), seed=st.integers(0))
@settings(deadline=None)
def test_every_sample_is_planned_once_and_at_most_one_batch_is_partial(
    lengths: np.ndarray, batch_size: int, bucketing: bool, seed: int
) -> None:
    batches = plan(lengths, seed=seed, epoch=1, batch_size=batch_size, bucketing=bucketing)
    ids = [index for batch in batches for index in batch.tolist()]
    assert sorted(ids) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert sum(len(batch) != batch_size for batch in batches) <= 1


@given(lengths=LENGTHS, batch_size=SIZES, size=st.integers(1, 5), micro=st.none() | SIZES)
@settings(deadline=None)
def test_ranks_and_micro_batches_share_a_batch_without_loss_or_copy(
    lengths: np.ndarray, batch_size: int, size: int, micro: int | None
) -> None:
    for batch in plan(lengths, seed=1, epoch=1, batch_size=batch_size, bucketing=True):
        shares = [
            share(batch, lengths, rank=rank, size=size, micro_batch_size=micro)
            for rank in range(size)
        ]
        parts = [part for pieces in shares for part in pieces]
        assert sorted(np.concatenate(parts).tolist()) == sorted(batch.tolist())
        assert all(0 < len(part) <= (micro or batch_size) for part in parts)
        loads = [sum(map(len, pieces)) for pieces in shares]
        assert max(loads) - min(loads) <= 1


def test_a_rank_takes_every_size_th_sample_of_the_batch_by_length() -> None:
    lengths = np.array([5, 1, 4, 2, 3])
    parts = share(np.arange(5), lengths, rank=1, size=2, micro_batch_size=1)
    assert [part.tolist() for part in parts] == [[3], [2]]
    assert share(np.array([3]), lengths, rank=1, size=2, micro_batch_size=None) == []


def test_a_plan_is_the_same_on_every_machine() -> None:
    lengths = np.arange(1000) % 37
    batches = plan(lengths, seed=13, epoch=1, batch_size=8, bucketing=True)
    digest = hashlib.sha256(np.concatenate(batches).astype("<i8").tobytes()).hexdigest()
    assert digest.startswith("cb3ed07a81f40832")


def test_splitmix64_gives_the_published_sequence() -> None:
    """The first outputs for the seed 0 (Vigna's splitmix64.c): the k-th finalises k times gamma."""
    gamma = 0x9E3779B97F4A7C15
    assert mix(0) == 0xE220A8397B1DCDAF
    assert mix(gamma) == 0x6E789E6AA1B965F4


def test_epochs_and_seeds_give_other_orders() -> None:
    lengths = np.ones(200, np.int64)
    orders = {
        tuple(np.concatenate(plan(lengths, seed=s, epoch=e, batch_size=8, bucketing=b)).tolist())
        for s in (1, 2)
        for e in (1, 2)
        for b in (False, True)
    }
    assert len(orders) == 8


def test_a_shuffle_favours_no_place() -> None:
    firsts = [
        int(plan(np.ones(10), seed=seed, epoch=1, batch_size=1, bucketing=False)[0][0])
        for seed in range(5000)
    ]
    counts = np.bincount(firsts, minlength=10)
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # chi-squared, 9 degrees: p > 0.001


def test_bucketing_leaves_little_padding_and_shuffles_the_batches() -> None:
    lengths = np.random.default_rng(0).integers(1, 128, 4000)
    batches = plan(lengths, seed=1, epoch=1, batch_size=32, bucketing=True)
    positions = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() / positions > 0.95
    means = np.array([lengths[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


@pytest.mark.parametrize("other", [{"seed": 2, "epoch": 1}, {"seed": 1, "epoch": 2}])
def test_a_samples_seed_depends_on_seed_epoch_and_its_id_only(other: dict[str, int]) -> None:
    ids = np.array([7, 3, 100])
    seeds = sample_seeds(ids, seed=1, epoch=1)
    assert seeds.dtype == np.uint64
    assert seeds[1] == sample_seeds(np.array([3]), seed=1, epoch=1)[0] == mix(1, 1, 3)
    assert not np.any(seeds == sample_seeds(ids, **other))


@given(lengths=LENGTHS, batch_size=SIZES)
def test_evaluation_is_planned_once_by_length(lengths: np.ndarray, batch_size: int) -> None:
    batches = evaluation_plan(lengths, batch_size=batch_size)
    ids = [index for batch in batches for index in batch.tolist()]
    assert sorted(ids) == list(range(len(lengths)))
    assert lengths[ids].tolist() == sorted(lengths.tolist())
