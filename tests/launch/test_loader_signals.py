"""A signal that goes to all processes of a run leaves its loader workers alive to save it."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from nlpkit.contracts import Vocabulary
from nlpkit.data.loader import Batching, Loading, TrainingSteps, _ends_named
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.errors import RunError
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask
from tests.launch.plays import alive, wait_for

SCHEMA = {"labels": ["no", "yes"], "counts": {"no": 1, "yes": 1}, "weights": {"no": 1, "yes": 1}}


def steps(folder, last=200):
    example = {
        "input_ids": np.arange(5, dtype=np.int32),
        "token_type_ids": np.zeros(5, np.uint8),
        "label": np.int64(0),
        "weight": np.float64(1),
    }
    with StoreWriter(folder / "store") as writer:
        for number in range(20):
            writer.append(example, f":{number}", [(5,)])
    return TrainingSteps(
        TokenStore.open(folder / "store"),
        SequenceTask(SequenceConfig()).codec(SCHEMA, Vocabulary(size=5, max_length=5)),
        Batching(seed=1, batch_size=4),
        Loading(workers=2),
    ).load(1, last)


def send(number, *pids):
    """From another process, as a terminal or a scheduler does."""
    subprocess.run(["kill", f"-{int(number)}", *map(str, pids)], check=True)
    time.sleep(0.1)


def workers_of(loading):
    next(loading)
    return [child.pid for child in multiprocessing.active_children()]


def test_workers_survive_what_stops_a_run_and_leave_with_the_loader(tmp_path):
    loading = steps(tmp_path)
    workers = workers_of(loading)
    assert len(workers) == 2
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        send(number, *workers)
    assert len([next(loading) for _ in range(20)]) == 20
    started = time.perf_counter()
    loading.close()
    assert time.perf_counter() - started < 2
    assert not any(map(alive, workers))


@pytest.mark.slow  # torch looks every five seconds
@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGTERM, "left"), (signal.SIGKILL, "was killed by signal 9 (Killed)")],
)
def test_a_worker_that_dies_is_named_where_it_is_waited_for(tmp_path, number, said):
    loading = steps(tmp_path)
    worker = workers_of(loading)[0]
    if number == signal.SIGTERM:
        send(number, worker)  # the first one is the run's: it is needed until that is saved
        assert alive(worker)
    send(number, worker)
    wait_for(lambda: not alive(worker), 3)
    with pytest.raises(RunError) as caught:
        list(loading)
    assert str(caught.value) == (
        f"a loader worker {said}, as when memory runs out: resume=True goes on from the last "
        "checkpoint; fewer loader.workers (0: none) take less memory"
    )


@pytest.mark.parametrize(("code", "fate"), [(-9, "was killed by signal 9 (Killed)"), (143, "left")])
def test_the_end_of_a_worker_is_named_with_its_signal(code, fate):
    steps = SimpleNamespace(_workers=[SimpleNamespace(exitcode=each) for each in (None, code)])
    with pytest.raises(RunError) as caught:
        with _ends_named(steps):
            raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    assert str(caught.value).startswith(f"a loader worker {fate}, as when memory runs out: ")


def test_the_handler_of_ended_processes_stays_as_it_was(tmp_path):
    before = signal.getsignal(signal.SIGCHLD)
    workers_of(steps(tmp_path))
    assert signal.getsignal(signal.SIGCHLD) is before


PARENT = """
import sys, time
from pathlib import Path
from tests.launch.test_loader_signals import steps, workers_of

loading = steps(Path(sys.argv[1]))
print(*workers_of(loading), flush=True)
time.sleep(float(sys.argv[2]))
"""


def start(folder, seconds):
    command = [sys.executable, "-c", PARENT, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_workers_of_a_killed_process_leave_at_once(tmp_path):
    """Else their copies of its sockets let other ranks wait for it."""
    with start(tmp_path, 1000) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(workers) == 2
    wait_for(lambda: not any(map(alive, workers)), 3)  # torch looks every five seconds


def test_a_process_that_ends_while_it_loads_does_not_wait_for_its_workers(tmp_path):
    with start(tmp_path, 0) as parent:
        assert len(parent.stdout.readline().split()) == 2
        assert parent.wait(20) == 0
