"""One lease's training: Ray Train starts the ranks, and starts them again when one of them dies.

It knows neither checkpoints nor data: each rank goes on from the newest good checkpoint itself.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import ray
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from nlpkit.errors import NlpkitError, RunError
from nlpkit_ray.desk import open_desk
from nlpkit_ray.private import FULL
from nlpkit_ray.ranks import Order, rank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlpkit_ray.gang import Plan

_POLL = 0.1  # seconds between two looks at whether to stop
_TAIL = 3  # lines of what a rank raised
_FULL = (
    "its node ran out of memory, and Ray ended it; a smaller train.micro_batch_size or fewer "
    "loader.workers help"
)
_DIED = "its process died: it was killed, or its node, or memory ran out there"
_SETTINGS = {
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",  # then there is no room for this many ranks
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # so soon it sees that ranks ended, or died
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # with it, what a rank prints is shown twice
}


class Displaced(Exception):
    """The ranks have no place any more, or their controller died: to be tried with a new lease."""


def train(plan: Plan, workers: int) -> bool:
    """Trains with so many ranks, to the end: true; or, once told to stop, saves: false.

    Raises:
        Displaced: A node is gone, or somebody took its place, or Ray Train's controller died.
        NlpkitError: What the run raised, or RunError where ranks died too often.
    """
    desk = open_desk()
    url = plan.storage.url if plan.storage else None
    order = Order(run_dir=str(plan.run_dir), storage=url, desk=desk)
    trainer = TorchTrainer(
        cast("Any", rank),  # it returns something
        train_loop_config={"order": order},
        torch_config=TorchConfig(backend=plan.backend),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=plan.gang.resource == "GPU",
            resources_per_worker=plan.gang.takes,
        ),
        run_config=RunConfig(
            name=plan.run_dir.name,
            storage_path=f"{plan.scratch.root}/.ray",
            storage_filesystem=PyFileSystem(FSSpecHandler(plan.scratch.fs)),
            failure_config=FailureConfig(
                max_failures=plan.max_failures, controller_failure_limit=1
            ),
        ),
    )
    outcome = _Outcome(trainer)
    with _settings():
        outcome.start()
        told = False
        heard: Any = desk.hear.remote()
        while outcome.is_alive() or ray.wait([heard], timeout=0)[0]:
            if ray.wait([heard], timeout=_POLL)[0]:
                sys.stderr.write(ray.get(heard))
                heard = desk.hear.remote()
            if not told and plan.stop():
                told = True
                desk.stop.remote()
    if verdict := ray.get(desk.verdict.remote()):
        raise verdict
    ray.kill(desk)
    return outcome.finished()


class _Outcome(threading.Thread):
    """Ray Train's `fit`: in a thread, for in the main one it takes SIGINT, and saves nothing."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="nlpkit-fit", daemon=True)
        self._trainer = trainer
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Keeps what came out."""
        try:
            self._result = self._trainer.fit()
        except BaseException as error:
            self._error = error

    def finished(self) -> bool:
        """Whether the run did. Raises what `fit` says."""
        error = self._error
        if error is None:
            return bool(self._result.return_value["finished"])
        if isinstance(error, ControllerError | ray.exceptions.RayActorError):
            raise Displaced(cause(error)) from error
        if isinstance(error, WorkerGroupError):
            causes = {rank: cause(each) for rank, each in sorted(error.worker_failures.items())}
            first = min(causes, key=lambda rank: causes[rank] not in (_FULL, _DIED), default=0)
            raise RunError(f"rank {first}: {causes.get(first) or cause(error)}") from error
        if isinstance(error, NlpkitError):
            raise error
        raise RunError(cause(error)) from error


def cause(error: BaseException) -> str:
    """What went wrong, in a line: Ray's own texts list all processes of a node, and more."""
    for name in ("controller_failure", "health_check_failure"):
        error = getattr(error, name, error)
    text = str(error)
    if isinstance(error, ray.exceptions.OutOfMemoryError) or FULL in text:
        return _FULL
    if isinstance(error, ray.exceptions.RayActorError):
        return _DIED
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-_TAIL:]) or type(error).__name__


@contextmanager
def _settings() -> Iterator[None]:
    """Ray Train takes its settings from the environment."""
    before = {name: os.environ.get(name) for name in _SETTINGS}
    os.environ.update({name: value for name, value in _SETTINGS.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
