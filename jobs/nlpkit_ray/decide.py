"""Who may start: a pure function of what the pool knows, the same on every machine.

Order is priority, then time. A job that does not fit waits, and those behind it that fit go first,
but only so many later ones: then nothing behind it starts, and GPUs gather for it as others end.
So nobody starves, and nobody has to guess how long a run takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_HOUR = 3600.0
_SLACK = 1e-6  # of a GPU: sums of tenths are no tenths


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of the pool.

    Attributes:
        id: Its name.
        user: Whose it is, as declared.
        priority: 0 low, 1 normal, 2 high.
        since: When it joined, in seconds since 1970.
        least: How many workers at least.
        most: How many at most.
        each: How much of the resource one worker takes, all of one node.
        resource: "GPU" or "CPU".
        overtaken: How many later jobs have started before it, so far.
        workers: How many workers its lease is for; 0: it waits.
    """

    id: str
    user: str
    priority: int
    since: float
    least: int
    most: int
    each: float
    resource: str = "GPU"
    overtaken: int = 0
    workers: int = 0


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine.

    Attributes:
        id: Its name.
        total: What it has, by resource.
        free: What neither strangers nor leases use of it.
    """

    id: str
    total: Mapping[str, float]
    free: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How the pool decides.

    Attributes:
        overtake: How many later jobs may start before one that waits.
        age_hours: After so many hours of waiting its priority rises by a level.
        waiting: How many jobs may wait.
        gpus_per_user: How many GPUs the jobs of one user may have together; None: all.
        users: For some users, another number.
        off: Everything starts at once, for something else has decided already.
    """

    overtake: int = 4
    age_hours: float = 12.0
    waiting: int = 100
    gpus_per_user: float | None = None
    users: Mapping[str, float] = field(default_factory=dict)
    off: bool = False

    def limit(self, user: str) -> float | None:
        """How many GPUs a user may have."""
        return self.users.get(user, self.gpus_per_user)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What the pool knows at a moment: `now` in seconds since 1970."""

    now: float
    nodes: Sequence[Node]
    jobs: Sequence[Job]


@dataclass(frozen=True, kw_only=True)
class Start:
    """It may start so many workers; `overtakes` names the jobs that it starts before."""

    workers: int
    overtakes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wait:
    """It waits, at this place (1: the first), for a reason that people understand."""

    position: int
    reason: str


def decide(me: str, snapshot: Snapshot, policy: Policy) -> Start | Wait:
    """Whether the waiting job `me` may start now."""
    return schedule(snapshot, policy)[me]


def schedule(snapshot: Snapshot, policy: Policy) -> dict[str, Start | Wait]:
    """What every waiting job may do now, by its id. O(n log n) for n jobs."""
    if policy.off:
        return {job.id: Start(workers=job.most) for job in snapshot.jobs if not job.workers}
    decisions: dict[str, Start | Wait] = {}
    free = {kind: _Room(snapshot.nodes, kind) for kind in ("GPU", "CPU")}
    held: dict[str, float] = {}
    for job in snapshot.jobs:
        if job.workers and job.resource == "GPU":
            held[job.user] = held.get(job.user, 0.0) + job.workers * job.each
    passed: list[Job] = []  # those before, in the order as it is now, that wait for room
    barred: Job | None = None  # the first of them that was overtaken often enough
    for place, job in enumerate(in_order(snapshot, policy), start=1):
        room = free[job.resource]
        limit = policy.limit(job.user) if job.resource == "GPU" else None
        left = (
            job.most
            if limit is None
            else int((limit - held.get(job.user, 0.0) + _SLACK) / job.each)
        )
        if left < job.least:
            has = f"{job.user} has {held.get(job.user, 0.0):g} GPUs"
            reason = f"{has}, and may have {limit:g}"
            decisions[job.id] = Wait(position=place, reason=reason)
            continue
        workers = min(room.fits(job.each), job.most, left)
        if barred is not None and barred.resource == job.resource:
            reason = f"{barred.id} goes first, for it was overtaken {barred.overtaken} times"
            decisions[job.id] = Wait(position=place, reason=reason)
        elif workers >= job.least:
            room.take(job.each, workers)
            held[job.user] = held.get(job.user, 0.0) + workers * job.each
            overtakes = [
                each
                for each in passed
                if each.resource == job.resource and (job.since, job.id) > (each.since, each.id)
            ]
            passed = [
                replace(each, overtaken=each.overtaken + 1) if each in overtakes else each
                for each in passed
            ]
            decisions[job.id] = Start(
                workers=workers, overtakes=tuple(each.id for each in overtakes)
            )
        else:
            decisions[job.id] = Wait(position=place, reason=room.reason(job))
            if room.ever(job.each) >= job.least:  # else it waits for a node to come back
                passed.append(job)
        if barred is None:
            barred = next((each for each in passed if each.overtaken >= policy.overtake), None)
    return decisions


def in_order(snapshot: Snapshot, policy: Policy) -> list[Job]:
    """The jobs that wait, in the order in which they are looked at."""

    def key(job: Job) -> tuple[int, float, str]:
        waited = max(0.0, snapshot.now - job.since)
        return -(job.priority + int(waited / _HOUR / policy.age_hours)), job.since, job.id

    return sorted((job for job in snapshot.jobs if not job.workers), key=key)


def impossible(job: Job, nodes: Iterable[Node]) -> str:
    """Why a job cannot have room on these nodes even if they were empty, or ""."""
    nodes = list(nodes)
    room = _Room(nodes, job.resource).ever(job.each)
    if room >= job.least:
        return ""
    total = sum(node.total.get(job.resource, 0.0) for node in nodes)
    largest = max((node.total.get(job.resource, 0.0) for node in nodes), default=0.0)
    asked = _asked(job, job.least)
    if job.each > largest + _SLACK:
        return f"{asked}, and no node has more than {largest:g}"
    return f"{asked}, and the pool has {total:g} in all, room for {room} at most"


def forbidden(job: Job, policy: Policy) -> str:
    """Why a policy never lets a job start, or ""."""
    limit = policy.limit(job.user) if job.resource == "GPU" else None
    if policy.off or limit is None or job.least * job.each <= limit + _SLACK:
        return ""
    return f"{job.least * job.each:g} GPUs, and {job.user} may have {limit:g}"


def take(nodes: Sequence[Node], job: Job, workers: int) -> list[Node]:
    """The nodes without what so many workers of a job will take, as far as there is room."""
    taken = []
    for node in sorted(nodes, key=lambda node: -node.free.get(job.resource, 0.0)):
        free = node.free.get(job.resource, 0.0)
        here = min(workers, int((free + _SLACK) / job.each))
        workers -= here
        left = {**node.free, job.resource: max(0.0, free - here * job.each)}
        taken.append(replace(node, free=left))
    return taken


def _asked(job: Job, workers: int) -> str:
    many = f"{workers} worker{'s' if workers > 1 else ''}"
    return f"{many} of {job.each:g} {job.resource}{'' if job.each == 1 else 's'} each"


class _Room:
    """What is free of one resource, node by node."""

    def __init__(self, nodes: Sequence[Node], resource: str) -> None:
        self._free = [node.free.get(resource, 0.0) for node in nodes]
        self._total = [node.total.get(resource, 0.0) for node in nodes]
        self._resource = resource

    def fits(self, each: float) -> int:
        """How many workers find room now."""
        return sum(int((free + _SLACK) / each) for free in self._free)

    def ever(self, each: float) -> int:
        """How many would, if nothing ran."""
        return sum(int((total + _SLACK) / each) for total in self._total)

    def take(self, each: float, workers: int) -> None:
        """Takes room for workers, of the emptiest nodes first, as Ray packs them."""
        for node in sorted(range(len(self._free)), key=lambda node: -self._free[node]):
            here = min(workers, int((self._free[node] + _SLACK) / each))
            self._free[node] -= here * each
            workers -= here

    def reason(self, job: Job) -> str:
        """What a job waits for."""
        free, total = sum(self._free), sum(self._total)
        text = f"{_asked(job, job.least)}; {free:g} of {total:g} {self._resource}s are free"
        return text if self.ever(job.each) >= job.least else f"{text}, and that is too few for it"
