"""The launcher `ray`: a job's driver takes its place in the pool; others get a Ray of their own."""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.environment import import_path
from nlpkit.errors import InputError, RunError
from nlpkit.plugin.host import Host
from nlpkit.signals import SIGNALS
from nlpkit_ray.decide import Node, impossible
from nlpkit_ray.gang import Plan, gang_of, job_of
from nlpkit_ray.lease import Claim, Lease, again
from nlpkit_ray.private import usable
from nlpkit_ray.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nlpkit.config.schema import Config
    from nlpkit_ray.config import RayConfig
    from nlpkit_ray.gang import Gang
    from nlpkit_ray.job import Job as SubmittedJob

_MEMORY = 100_000_000  # bytes of Ray's object store, which no rank uses
_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What a driver knows of its job.

    Attributes:
        id: The job's.
        user: Whose it is, as declared.
        since: When its driver began, in seconds since 1970.
        policy: The file of the pool's policy, or None.
    """

    id: str
    user: str
    since: float
    policy: str | None


_SUBMITTED = ContextVar[Submitted | None]("_SUBMITTED", default=None)


@contextmanager
def submitted(job: Submitted) -> Iterator[None]:
    """What is launched within takes its turn in the pool of the cluster that this process is of."""
    token = _SUBMITTED.set(job)
    try:
        yield
    finally:
        _SUBMITTED.reset(token)


class RayLauncher:
    """Ranks as the workers of Ray Train.

    Args:
        options: What the config says.
    """

    def __init__(self, options: RayConfig) -> None:
        self.options = options

    def launch(self, run_dir: Path, ranks: int, stop: Callable[[], bool]) -> bool:
        """Runs all ranks to the end: true; or, once `stop` says so, saves: false.

        Raises:
            InputError: So many workers can never be had.
            RunError: `max_hours` are over; what was learned is saved.
            NlpkitError: What the run raised.
        """
        config, host = load_config(run_dir / "config.yaml"), Host.discover()
        host.bring(config.plugins, run_dir)
        gang, clock = gang_of(config, host, self.options), _Clock(self.options.max_hours, stop)
        job = _SUBMITTED.get()
        with _at_home(), _ray(job), tempfile.TemporaryDirectory(prefix="nlpkit-") as temporary:
            storage = Storage(str(self.options.storage)) if job else None
            gpus = gang.resource == "GPU" and config.device != "cpu" and _gpus_are_real()
            plan = Plan(
                run_dir=run_dir,
                storage=storage,
                gang=gang.on(sum(node.total[gang.resource] for node in _nodes())),
                backend="nccl" if gpus else "gloo",
                max_failures=self.options.max_failures,
                scratch=storage or Storage(temporary),
                stop=clock.stop,
            )
            if job and storage:
                finished = self._in_turn(job, config.name, plan, storage, clock)
            else:
                from nlpkit_ray.fit import train

                with clock.running():
                    finished = train(plan, _workers_here(plan.gang))
        if not finished and clock.over and not stop():
            over = f"launch.max_hours: {self.options.max_hours:g} are over"
            raise RunError(f"{over}; what was learned is saved, and it can be resumed")
        return finished

    def submit(
        self,
        config: Config,
        host: Host,
        *,
        address: str,
        insecure: bool,
        resume: str | None,
        say: Callable[[str], None],
    ) -> SubmittedJob:
        """Submits a config to a cluster, once all is checked; see `nlpkit.submit`."""
        from nlpkit_ray.client import connect
        from nlpkit_ray.submission import Submission

        connection = connect(address, insecure=insecure)
        return Submission(
            config=config, host=host, connection=connection, say=say, resume=resume
        ).send()

    def _in_turn(
        self, job: Submitted, name: str, plan: Plan, storage: Storage, clock: _Clock
    ) -> bool:
        """Takes leases of the pool until the run has ended."""
        say, run_dir = Terminal().note, plan.run_dir
        environment = json.loads((run_dir / "environment.json").read_bytes())
        storage.keep_tokens(Path(environment["tokens"]))
        if not storage.is_shared:
            storage.give(run_dir)
        wanted = job_of(plan.gang, self.options, id=job.id, user=job.user, since=job.since)
        claim = Claim(
            job=wanted,
            name=name,
            policy=job.policy,
            impossible=lambda: impossible(wanted, _nodes()),
        )
        failures = 0
        while True:
            with Lease(claim, say) as lease:
                workers = lease.wait(clock.stop)
                say(f"starts {workers} worker{'s' if workers > 1 else ''}")
                from nlpkit_ray.fit import Displaced, train  # torch: memory while it waits

                try:
                    with clock.running():
                        finished = train(plan, workers)
                    if not storage.is_shared:
                        storage.pull(run_dir.name, run_dir)
                    return finished
                except Displaced as error:
                    failures += 1
                    if failures > self.options.max_failures:
                        raise RunError(f"started anew too often; the last time: {error}") from error
                    say(f"starts anew, with another lease: {error}")
                    claim = again(claim, lease.overtaken)


class _Clock:
    """How long a run has trained, over all its leases."""

    def __init__(self, hours: float | None, stop: Callable[[], bool]) -> None:
        self._left = None if hours is None else hours * _HOUR
        self._stop, self._since = stop, time.monotonic()
        self._runs = False

    @property
    def over(self) -> bool:
        """Whether the hours are over."""
        spent = time.monotonic() - self._since if self._runs else 0.0
        return self._left is not None and spent >= self._left

    def stop(self) -> bool:
        """Whether to save and leave."""
        return self._stop() or self.over

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time counts within."""
        self._since, self._runs = time.monotonic(), True
        try:
            yield
        finally:
            if self._left is not None:
                self._left -= time.monotonic() - self._since
            self._runs = False


def _workers_here(gang: Gang) -> int:
    """How many workers find room on this machine."""
    total = sum(node.total[gang.resource] for node in _nodes())
    room = int(total / gang.each)
    if room < gang.least:
        remedy = "strategy.devices=…" if room else "launch.gpus_per_worker=0 takes processors"
        raise InputError(
            f"strategy.devices: {gang.least} workers of {gang.each:g} {gang.resource} each, and "
            f"this machine has {total:g}; {remedy}"
        )
    return min(room, gang.most or room)


def _nodes() -> tuple[Node, ...]:
    """The cluster's nodes, with all that they have."""
    found = [
        (node["NodeID"], {kind: node["Resources"].get(kind, 0.0) for kind in ("GPU", "CPU")})
        for node in usable()
    ]
    return tuple(Node(id=name, total=total, free=total) for name, total in found)


def _gpus_are_real() -> bool:
    """Whether Ray found out of which type they are: it takes any number that it is given."""
    found = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return any(name.startswith("accelerator_type:") for name in found)


@contextmanager
def _at_home() -> Iterator[None]:
    """A home for a user without one, as in containers: Ray Train cannot be imported then."""
    if os.path.expanduser("~") != "~":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="nlpkit-") as home:
        os.environ["HOME"] = home
        try:
            yield
        finally:
            del os.environ["HOME"]


@contextmanager
def _ray(job: Submitted | None) -> Iterator[None]:
    """The cluster that the driver of a job belongs to; else one that ends with the block."""
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not job:
        options |= {
            "include_dashboard": False,
            "object_store_memory": _MEMORY,
            "runtime_env": {"env_vars": {"PYTHONPATH": import_path()}},
        }
    with _handlers():
        ray.init(address="auto" if job else "local", **options)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _handlers() -> Iterator[None]:
    """Gives signals back to who had them: Ray takes SIGTERM, and then nothing would be saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # else it is none of Python's
                signal.signal(number, handler)
