"""A full /dev/shm is named, with what to do about it."""

from __future__ import annotations

import pytest

from nlpkit.data.loader import _shared_memory_named
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
        with _shared_memory_named():
            raise RuntimeError(said)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="^DataLoader worker .* Killed"):
        with _shared_memory_named():
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
