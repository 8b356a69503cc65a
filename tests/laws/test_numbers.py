"""Which samples `sequence` takes in which step, and what its steps come to, in every version.

A checkpoint, a paper and a comparison stand on them. Whoever changes one of these numbers means to.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from nlpkit.data.plan import evaluation_plan, share
from nlpkit.engine.precision import Precision
from tests.laws.cases import CASES, stored
from tests.laws.experiment import on_one
from tests.laws.test_law2_plan import ledger
from tests.laws.trajectory import trajectory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nlpkit.data.store import TokenStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """203 samples of one to four windows."""
    return stored(tmp_path_factory.mktemp("numbers") / "store", CASES["windows"], 203)


def hash_of(parts: Iterable[np.ndarray]) -> str:
    return hashlib.sha256(b"|".join(part.astype("<i8").tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize(
    ("bucketing", "wanted"),
    [
        (True, "dec0871a9bbc60bd755025e52ca30d73593b6931485c5c3c9c695dc948a04e33"),
        (False, "8cf15ff1fa21a5d62537d484788392c5493d69ef1b4ac181eaffb84cf5d1681b"),
    ],
)
def test_the_steps_of_a_run_have_the_samples_that_they_always_had(store, bucketing, wanted):
    hashes = ledger(store, ranks=1, case="windows", bucketing=bucketing)
    assert hashlib.sha256("".join(hashes).encode()).hexdigest() == wanted


def test_micro_batches_and_evaluations_are_cut_as_they_always_were(store):
    lengths, rows = store.lengths, store.rows
    parts = share(np.arange(203), lengths, rank=1, size=2, micro_batch_size=5, rows=rows)
    assert hash_of(parts) == "2fef0f6958802b1d4b8c4accdbfedfb0ee751cf09a386aa95ddb132bf664a340"
    batches = evaluation_plan(lengths, batch_size=8, rows=rows)
    assert hash_of(batches) == "93d45361d274d79a0132197cb2672b6b43d80d49ee60a088816e2f2dee40fb02"


@pytest.mark.parametrize(
    ("objective", "losses", "norm"),
    [
        ("both weights", [1.1019473172645622, 1.039295830665772, 0.8960277508369674], 1.2759374874),
        ("regression", [1.5292359723825784, 1.3111577667298362, 1.2673478450917826], 2.3997316708),
        ("windows", [1.1019473172645622, 1.0379989777524288, 0.9013033084299633], 1.2522241921),
    ],
)
def test_the_first_tenth_and_fiftieth_step_come_to_what_they_always_did(objective, losses, norm):
    exact = Precision("fp32", "cpu")
    found = on_one(lambda single: trajectory(single, objective, torch.float64, exact))
    assert [found["loss"][step - 1] for step in (1, 10, 50)] == pytest.approx(losses, rel=1e-9)
    assert found["norm"][9] == pytest.approx(norm, rel=1e-9)
