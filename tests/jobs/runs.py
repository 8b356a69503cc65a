"""What tests do with jobs: submit, kill, compare."""

from __future__ import annotations

import json
import os
import pwd
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from nlpkit_ray.job import Job
    from tests.jobs.cluster import Cluster

PATIENCE = 240.0


def submit(
    config: Path, pool: Cluster, storage: Path | str, *overrides: str, **options: Any
) -> Job:
    """Submits a config to a cluster of this machine."""
    given = ["launch.name=ray", f"launch.storage={storage}", *overrides]
    job: Job = nlpkit.submit(nlpkit.load_config(config, given), address=pool.address, **options)
    return job


def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs as a uid that the machine has no name and no home for, as containers do."""

    def unknown(*_: object) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


def weights(run: Path) -> dict[str, np.ndarray]:
    """The weights of a run's bundle."""
    return dict(load_file(run / "bundle" / "model.safetensors"))


def same(one: Path, other: Path) -> bool:
    """Whether two runs have the same weights, to the bit."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def distance(one: Path, other: Path) -> float:
    """|w − w'| / |w| over all weights of two runs."""
    first, second = weights(one), weights(other)
    apart = sum(float(((first[name] - second[name]) ** 2).sum()) for name in first)
    return float(np.sqrt(apart / sum(float((each**2).sum()) for each in first.values())))


def training_lines(run: Path) -> list[dict[str, Any]]:
    """The training lines of metrics.jsonl."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["split"] == "train"]


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """What a condition gives once it is true."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {patience:g} s")


def steps_logged(run: Path) -> int:
    """How many training steps a run has logged."""
    with suppress(OSError, ValueError):
        return len(training_lines(run))
    return 0


def resumed(run: Path, killed: float) -> bool:
    """Whether steps are logged again, well after a moment in which something was killed."""
    with suppress(OSError):
        return (run / "metrics.jsonl").stat().st_mtime > killed + 1
    return False


def processes(pool: Cluster, *marks: str) -> list[int]:
    """The processes of a cluster whose command line holds one of some texts, the newest last."""
    found = []
    for number in range(len(pool.nodes)):
        for pid in pool.processes(number):
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if any(mark in command for mark in marks) and "bash" not in command.split()[0]:
                    found.append(pid)
    return sorted(found)


def ranks(pool: Cluster, *, helpers: bool = False) -> list[int]:
    """The processes that train, the newest last; or those that load for them."""
    found = processes(pool, "ray::RayTrainWorker")
    parents = {
        pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        for pid in found
    }
    return [pid for pid in found if (parents[pid] in found) == helpers]


def kill(*pids: int) -> None:
    """SIGKILL."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
