from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

from nlpkit.contracts import Batch, pad
from nlpkit.data.loader import (
    Batching,
    Loading,
    StepBatches,
    TrainingSteps,
    evaluation_batches,
    to_tensors,
)
from nlpkit.data.plan import plan, sample_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nlpkit.data.store import TokenStore

    MakeStore = Callable[[list[int]], TokenStore]

LENGTHS = np.random.default_rng(1).integers(1, 30, 45).tolist()


class Collating:
    """As much of a codec as a loader needs; its targets show the seeds that it was given."""

    def collate(self, examples: Sequence[Any], seeds: Sequence[int]) -> Batch:
        return Batch(
            inputs={"input_ids": pad([example["input_ids"] for example in examples])},
            targets={
                "label": np.stack([example["label"] for example in examples]),
                "seed": np.array(seeds, np.uint64).view(np.int64),
            },
            count=float(len(examples)),
        )


def steps(store: TokenStore, **changes: Any) -> list[StepBatches]:
    first, last = changes.pop("first", 1), changes.pop("last", 12)
    micro = changes.pop("micro_batch_size", 3)
    batching = Batching(seed=13, batch_size=8, micro_batch_size=micro)
    found = TrainingSteps(store, cast("Any", Collating()), batching, Loading(**changes))
    return list(found.load(first, last))


def same(one: StepBatches, other: StepBatches) -> bool:
    pairs = zip(one.batches, other.batches, strict=True)
    return (
        (one.step, one.epoch, one.tokens, one.positions)
        == (other.step, other.epoch, other.tokens, other.positions)
        and np.array_equal(one.ids, other.ids)
        and all(
            np.array_equal(a.ids, b.ids)
            and (a.count, a.weight) == (b.count, b.weight)
            and all(torch.equal(a.inputs[name], b.inputs[name]) for name in a.inputs)
            and all(torch.equal(a.targets[name], b.targets[name]) for name in a.targets)
            for a, b in pairs
        )
    )


def test_steps_are_the_same_whatever_the_workers(make_store: MakeStore) -> None:
    store = make_store(LENGTHS)
    alone, helped = steps(store), steps(store, workers=2)
    assert all(same(one, other) for one, other in zip(alone, helped, strict=True))


def test_steps_follow_the_plan_across_epochs(make_store: MakeStore) -> None:
    store = make_store(LENGTHS)
    found = steps(store)
    assert [step.step for step in found] == list(range(1, 13))
    assert [step.epoch for step in found] == [1] * 6 + [2] * 6
    planned = [
        batch.tolist()
        for epoch in (1, 2)
        for batch in plan(store.lengths, seed=13, epoch=epoch, batch_size=8, bucketing=True)
    ]
    assert [step.ids.tolist() for step in found] == planned


def test_a_step_does_not_depend_on_where_the_run_began(make_store: MakeStore) -> None:
    store = make_store(LENGTHS)
    whole, resumed = steps(store), steps(store, first=5, workers=1)
    assert all(same(one, other) for one, other in zip(whole[4:], resumed, strict=True))


def test_seeds_are_those_of_epoch_and_sample(make_store: MakeStore) -> None:
    for step in steps(make_store(LENGTHS)):
        for batch in step.batches:
            expected = sample_seeds(batch.ids, seed=13, epoch=step.epoch)
            assert batch.targets["seed"].numpy().view(np.uint64).tolist() == expected.tolist()


def test_a_rank_with_nothing_gets_a_stand_in_that_counts_nothing(make_store: MakeStore) -> None:
    store = make_store([4, 2])
    first, second, third = (steps(store, last=1, rank=rank, size=3)[0] for rank in range(3))
    assert [batch.weight for batch in first.batches + second.batches] == [1.0, 1.0]
    assert [(batch.weight, batch.count) for batch in third.batches] == [(0.0, 0.0)]
    assert third.batches[0].ids.tolist() == third.ids[:1].tolist()
    assert [(each.tokens, each.positions) for each in (first, second, third)] == [(6, 6)] * 3


def test_tokens_and_positions_are_counted(make_store: MakeStore) -> None:
    (step,) = steps(make_store([4, 2, 1]), last=1, micro_batch_size=2)
    assert (step.tokens, step.positions) == (7, 2 * 2 + 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generator_is_left_alone(make_store: MakeStore, workers: int) -> None:
    store = make_store(LENGTHS)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    steps(store, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_evaluation_sees_each_row_once_over_all_ranks(make_store: MakeStore, size: int) -> None:
    store = make_store(LENGTHS[:13])
    ids = [
        index
        for rank in range(size)
        for batch in evaluation_batches(
            store,
            Collating(),  # type: ignore[arg-type]
            4,
            Loading(rank=rank, size=size, workers=rank % 2, prefetch=1),
        )
        for index in batch.ids.tolist()
    ]
    assert sorted(ids) == list(range(13))


def test_without_workers_no_signal_is_needed_that_windows_lacks(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SIGCHLD", "pthread_sigmask"):
        monkeypatch.delattr(signal, name)
    batches = evaluation_batches(make_store(LENGTHS), cast("Any", Collating()), 4, Loading())
    assert sum(len(batch.ids) for batch in batches) == len(LENGTHS)


def test_views_of_a_store_become_tensors_of_their_own(make_store: MakeStore) -> None:
    store = make_store([4])
    batch = Batch(inputs={"x": store[0]["input_ids"]}, targets={"y": store[0]["label"]}, count=1.0)
    tensors = to_tensors(batch)
    tensors.inputs["x"][0] = 99
    assert tensors.targets["y"].dtype == torch.int64
    assert store[0]["input_ids"][0] == 0
