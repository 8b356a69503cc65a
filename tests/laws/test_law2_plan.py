from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nlpkit.data.loader import Batching, Loading, TrainingSteps
from tests.laws.cases import CASES, TASKS, codec_of, stored

if TYPE_CHECKING:
    from nlpkit.data.store import TokenStore


STEPS = 25


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return stored(tmp_path_factory.mktemp("law2") / "store", CASES["class"], 203)


def ledger(
    store: TokenStore,
    *,
    ranks: int,
    first: int = 1,
    case: str = "class",
    workers: int = 0,
    **changes: Any,
) -> list[str]:
    """A hash of the sample ids of each step, gathered from what all ranks were given."""
    batching = Batching(**{"seed": 13, "batch_size": 32, "micro_batch_size": 5, **changes})
    codec = codec_of(CASES[case])
    of_ranks = [
        TrainingSteps(store, codec, batching, Loading(rank=rank, size=ranks, workers=workers)).load(
            first, STEPS
        )
        for rank in range(ranks)
    ]
    hashes = []
    for steps in zip(*of_ranks, strict=True):
        own = [batch.ids for step in steps for batch in step.batches if batch.weight]
        ids = np.sort(np.concatenate(own))
        assert all(np.array_equal(ids, np.sort(step.ids)) for step in steps)
        hashes.append(hashlib.sha256(steps[0].ids.tobytes()).hexdigest())
    return hashes


@pytest.mark.parametrize("bucketing", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_batches_are_the_same_on_1_2_and_4_ranks_and_with_workers(tmp_path, task, bucketing):
    case = TASKS[task].batches
    store = stored(tmp_path / "store", CASES[case], 203)
    same = {"case": case, "bucketing": bucketing}
    alone = ledger(store, ranks=1, **same)
    assert len(set(alone)) == STEPS
    assert ledger(store, ranks=2, **same) == alone
    assert ledger(store, ranks=4, **same) == alone
    assert ledger(store, ranks=1, **same, workers=2) == alone
    assert ledger(store, ranks=1, **same, micro_batch_size=None) == alone


def test_batches_from_the_middle_of_an_epoch_are_those_of_the_whole_run(store):
    assert ledger(store, ranks=2, first=11) == ledger(store, ranks=1)[10:]


def test_another_seed_gives_other_batches(store):
    assert ledger(store, ranks=1, seed=14) != ledger(store, ranks=1)


@pytest.mark.parametrize("case", ["windows", "token"])
def test_windows_change_no_batch_and_are_split_like_samples(store, case, tmp_path):
    windows = stored(tmp_path / "store", CASES[case], 203)
    assert len(windows.rows) == 203 < windows.rows.sum()
    alone = ledger(windows, ranks=1, case=case)
    if case == "windows":
        assert alone == ledger(store, ranks=1)  # the samples have the lengths of the other store's
    assert ledger(windows, ranks=2, case=case) == alone
    assert ledger(windows, ranks=2, case=case, workers=2) == alone
    assert ledger(windows, ranks=4, case=case, micro_batch_size=None) == alone
