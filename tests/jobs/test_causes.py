"""Why a job failed, in a line, whatever Ray has to say about it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from nlpkit.cli.main import main
from nlpkit.errors import RunError
from nlpkit_ray.commands import jobs as commands
from nlpkit_ray.fit import Displaced, _Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

FULL = (
    "1 worker(s) were killed due to the node running low on memory. Workers killed:\n"
    "Memory on the node (IP: 10.0.0.2, ID: 1f) was 62.1GB used / 64GB limit (0.970313)\n"
    "Top 10 memory users: PID\tMEM(GB)\tCOMMAND\n"
    + "".join(f"{n}\t6.1\tray::RayTrainWorker {'x' * 80}\n" for n in range(60))
    + "Refer to the documentation on how to address the out of memory issue: https://docs.ray.io\n"
    "Consider provisioning more memory on this node or reducing task parallelism.\n"
)
ENDED = "Connection closed by peer [127.0.0.1]:51234"


def failing(error: Exception) -> _Outcome:
    """What Ray Train's `fit` came to where it raises."""

    def fit() -> None:
        raise error

    trainer: Any = SimpleNamespace(fit=fit)
    outcome = _Outcome(trainer)
    outcome.start()
    outcome.join()
    return outcome


def dead(text: str, make: Callable[..., Exception]) -> Exception:
    return WorkerHealthCheckFailedError("A worker health check failed.", make(text))


@pytest.mark.parametrize(
    ("failures", "line"),
    [
        ({0: dead(FULL, OutOfMemoryError)}, "rank 0: its node ran out of memory, .*workers help"),
        ({0: RuntimeError(ENDED), 1: dead(FULL, OutOfMemoryError)}, "rank 1: its node ran out of"),
        ({0: RuntimeError(ENDED), 1: dead("", lambda _: ActorDiedError())}, "rank 1: its process"),
        ({0: dead(FULL, RuntimeError)}, "rank 0: its node ran out of memory"),
        ({0: ValueError("a\nb"), 1: ValueError("c")}, "rank 0: a b$"),
        ({}, "rank 0: Training failed"),
    ],
)
def test_a_rank_that_failed_is_named_with_the_cause(
    failures: dict[int, Exception], line: str
) -> None:
    with pytest.raises(RunError, match=line) as caught:
        failing(WorkerGroupError("many lines", failures)).finished()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_controller_that_ran_out_of_memory_is_started_again_and_that_is_one_line() -> None:
    with pytest.raises(Displaced, match=r"^its node ran out of memory, [^\n]*$"):
        failing(ControllerError(OutOfMemoryError(FULL))).finished()


class Cluster:
    """A cluster with one job that has failed, one that runs and one that waits."""

    def __init__(self) -> None:
        logs = {"ended": "", "runs": "waits, place 1: for room\nstarts 1 worker\n"}
        self._logs = {**logs, "waits": "waits, place 2: 1 GPU of 4 is free\n", "lost": None}

    def info(self, id: str) -> Any:
        return SimpleNamespace(
            submission_id=id,
            status="FAILED" if id == "ended" else "RUNNING",
            message=f"Job entrypoint command failed with exit code 1:\n{FULL}",
            metadata={"name": id},
            start_time=1_000,
            end_time=None,
            driver_exit_code=None,
        )

    def jobs(self) -> list[Any]:
        return [self.info(id) for id in self._logs]

    def logs(self, id: str) -> str:
        if (text := self._logs[id]) is None:
            raise RunError("its node does not answer")
        return text


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "connect", lambda *_, **__: Cluster())


@pytest.mark.usefixtures("cluster")
def test_a_listing_and_a_status_say_the_same_of_who_waits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["jobs", "--json"]) == 0
    listed = {job["id"]: job["status"] for job in json.loads(capsys.readouterr().out)}
    assert listed == {"ended": "failed", "runs": "running", "waits": "waiting", "lost": "running"}
    for id, state in listed.items():
        assert main(["status", id, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["status"], found["waits"]) == (
            state,
            "waits, place 2: 1 GPU of 4 is free" if id == "waits" else "",
        )


@pytest.mark.usefixtures("cluster")
def test_a_status_is_a_few_lines_and_all_that_ray_says_in_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["status", "ended"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 8
    assert "message    its node ran out of memory" in lines
    assert main(["status", "ended", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["message"].count("\n") > 60


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Job finished successfully.", "Job finished successfully."),
        (
            "failed with exit code 2, last logs:\nchecked\nerror: a.csv:3: bad\n",
            "error: a.csv:3: bad",
        ),
        ("", ""),
    ],
)
def test_the_reason_is_the_last_line(message: str, said: str) -> None:
    assert commands.reason(message) == said
