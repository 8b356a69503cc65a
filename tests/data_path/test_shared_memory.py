"""A full /dev/shm is named, with what to do about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nlpkit.data.loader import _ends_named
from nlpkit.errors import RunError


@pytest.mark.parametrize(
    "said",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
        "dataloader's workers are out of shared memory.",
        "unable to allocate shared memory(shm) for file </torch_7_1_0>: No space left on device",
    ],
)
def test_a_bus_error_of_a_loader_worker_says_what_to_do(said):
    with pytest.raises(RunError, match="/dev/shm: .* --shm-size=2g .* loader.workers=0"):
        with _ends_named(None):
            raise RuntimeError(said)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="^Caught"):
        with _ends_named(None):
            raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.")


TRAIN = """
import nlpkit, torch
from nlpkit.contracts import Batch
from nlpkit_tasks.sequence.codec import SequenceCodec
from dataclasses import replace

def collate(self, examples, seeds, before=SequenceCodec.collate):
    batch = before(self, examples, seeds)
    return replace(batch, inputs={**batch.inputs, "more": torch.zeros(5_000_000)})

SequenceCodec.collate = collate
nlpkit.train({
    "name": "shared",
    "data": "sample",
    "tokenizer": {"name": "wordpiece", "vocab_size": 300},
    "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2},
    "train": {"max_steps": 2},
    "loader": {"workers": 1},
    "observers": [],
})
"""


@pytest.mark.slow
def test_a_batch_that_does_not_fit_ends_the_run_and_does_not_make_it_wait(tmp_path: Path):
    """On a /dev/shm of 8 MB, which is seen by this run alone."""
    alone = ["unshare", "--mount"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    small = "mount -t tmpfs -o size=8m tmpfs /dev/shm"
    done = subprocess.run(
        [*alone, "sh", "-c", f'{small} && exec "$0" -c "$1"', sys.executable, TRAIN],
        env={**os.environ, "NLPKIT_RUNS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "RunError: /dev/shm: " in done.stderr.splitlines()[-1]
