"""The pool: one actor of the cluster that decides in which order jobs get their GPUs.

It decides order only. What it knows it was told by the drivers of jobs, which ask again every two
seconds: when it is killed, they start it anew and tell it once more. That no GPU is used twice is
Ray's business: a lease is followed by a placement group, and that is what holds them.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import ray

from nlpkit.errors import NlpkitError
from nlpkit_ray.decide import Job, Node, Policy, Snapshot, Start, forbidden, schedule, take
from nlpkit_ray.desk import here
from nlpkit_ray.policy import read_policy
from nlpkit_ray.private import available, ended, groups, usable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ray.actor import ActorHandle


NAME, NAMESPACE = "nlpkit-pool", "nlpkit"
_HOLD = 2.0  # seconds that a question is held, for want of news
_TICK = 0.3  # seconds between two looks at what is free
_SILENCE = 60.0  # seconds after which a driver that does not ask is taken for gone, ended or not
_AGAIN = 5.0  # seconds without another driver that comes back, after this actor was killed
_ENDED = 2.0  # seconds between two looks at which drivers have ended
_CALLS = 1000


@dataclass
class _Member:
    """A job of the pool.

    Attributes:
        job: As its driver tells it.
        ray_job: Ray's own id of the driver, which stands in its placement groups.
        name: For people.
        heard: When its driver asked last, by the monotonic clock.
        position: Its place among those that wait; 0: it runs.
        reason: What it waits for.
    """

    job: Job
    ray_job: str
    name: str
    heard: float
    position: int = 0
    reason: str = ""

    @property
    def decided(self) -> bool:
        """Whether it was told anything yet."""
        return bool(self.position or self.job.workers)

    @property
    def view(self) -> dict[str, Any]:
        """What its driver, and everybody, is told."""
        return {
            "id": self.job.id,
            "name": self.name,
            "user": self.job.user,
            "priority": self.job.priority,
            "since": self.job.since,
            "least": self.job.least,
            "most": self.job.most,
            "each": self.job.each,
            "resource": self.job.resource,
            "workers": self.job.workers,
            "overtaken": self.job.overtaken,
            "position": self.position,
            "reason": self.reason,
        }


class Pool:
    """Asynchronous; detached from whatever driver started it.

    Args:
        policy: The file that NLPKIT_POOL names where Ray's head runs, or None. It is read again
            whenever something is decided, so that it can be edited; while it is wrong, what it
            said before holds.
    """

    def __init__(self, policy: str | None) -> None:
        self._path = policy
        self._policy, self._fault = Policy(), ""
        self._members: dict[str, _Member] = {}
        self._settled = self._looked = 0.0  # by the monotonic clock
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, told: Mapping[str, Any], seen: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a driver asks again and again; the answer comes once it is another one than `seen`.

        Args:
            told: The fields of its `Job`, `ray_job` and `name`; `workers` is 0 while it waits.
            seen: The last answer; None for the first question ever.

        Returns:
            The job's view, or `refused`: why it may not wait.
        """
        self._task = self._task or asyncio.create_task(self._watch())
        given = dict(told)
        ray_job, name = given.pop("ray_job"), given.pop("name")
        job, known = Job(**given), self._members.get(given["id"])
        if not known and seen is None and (why := self._refusal(job)):
            return {"refused": why}
        if known:  # what was granted or counted meanwhile may not have reached the driver
            overtaken = max(known.job.overtaken, job.overtaken)
            job = replace(job, workers=job.workers or known.job.workers, overtaken=overtaken)
            known.job, known.heard = job, time.monotonic()
        else:
            self._members[job.id] = _Member(job, ray_job, name, time.monotonic())
            if seen is not None:  # whoever was killed knew it, and others that come back later
                self._settled = time.monotonic() + _AGAIN
        member = self._members[job.id]
        async with self._news:
            try:
                changed = self._news.wait_for(lambda: member.decided and member.view != seen)
                await asyncio.wait_for(changed, _HOLD)
            except TimeoutError:
                pass
        member.heard = time.monotonic()
        return member.view

    async def leave(self, job: str) -> None:
        """A job needs its lease no more, or no longer waits."""
        self._members.pop(job, None)

    async def view(self) -> dict[str, Any]:
        """The whole pool, for people: nodes, jobs, and what the policy says."""
        nodes = [asdict(node) for node in _nodes(self._members.values())]
        jobs = [member.view for member in self._members.values()]
        self._read()
        policy = {"policy": asdict(self._policy), "fault": self._fault}
        return {"nodes": nodes, "jobs": jobs, **policy}

    def _read(self) -> None:
        try:
            self._policy, self._fault = read_policy(self._path), ""
        except NlpkitError as error:
            self._fault = str(error)

    def _refusal(self, job: Job) -> str:
        """Why a job may not wait, or ""."""
        self._read()
        if why := forbidden(job, self._policy):
            return f"it can never start: {why}; ask for less"
        waiting = sum(not member.job.workers for member in self._members.values())
        limit = self._policy.waiting
        if waiting < limit:
            return ""
        return f"{waiting} jobs wait already, and no more than {limit} may; submit it later"

    async def _watch(self) -> None:
        """Looks again and again, for GPUs become free without a word."""
        while True:
            await asyncio.sleep(_TICK)
            try:
                self._forget()
                self._decide()
            except Exception:
                traceback.print_exc()  # in this actor's log; the next look may succeed
            async with self._news:
                self._news.notify_all()

    def _forget(self) -> None:
        """Drops the jobs whose drivers have ended, or hang."""
        now, gone = time.monotonic(), set[str]()
        if now - self._looked > _ENDED:
            self._looked, gone = now, ended()
        for name, member in list(self._members.items()):
            if member.ray_job in gone or now - member.heard > _SILENCE:
                del self._members[name]

    def _decide(self) -> None:
        """Starts what may start; not while drivers still come back."""
        if time.monotonic() < self._settled:
            return
        self._read()
        members = self._members
        jobs = tuple(member.job for member in members.values())
        snapshot = Snapshot(now=time.time(), nodes=_nodes(members.values()), jobs=jobs)
        for name, decision in schedule(snapshot, self._policy).items():
            member = members[name]
            if isinstance(decision, Start):
                member.job = replace(member.job, workers=decision.workers)
                member.position, member.reason = 0, ""
                for other in decision.overtakes:
                    overtaken = members[other].job.overtaken + 1
                    members[other].job = replace(members[other].job, overtaken=overtaken)
            else:
                member.position, member.reason = decision.position, decision.reason


def _nodes(members: Iterable[_Member]) -> tuple[Node, ...]:
    """The nodes, and what of them is free: without what leases will take that have no place yet.

    What strangers use is what neither is available nor in a placement group. Both figures lag
    behind each other for moments, hence the larger use counts.
    """
    there, (grouped, placed) = available(), groups()
    nodes = []
    for found in usable():
        name, free = found["NodeID"], {}
        total = {kind: found["Resources"].get(kind, 0.0) for kind in ("GPU", "CPU")}
        for kind, amount in total.items():
            left = min(amount - grouped.get((name, kind), 0.0), there[name].get(kind, 0.0))
            free[kind] = max(0.0, left) if name in there else 0.0
        nodes.append(Node(id=name, total=total, free=free))
    for member in members:
        if member.job.workers and member.ray_job not in placed:
            nodes = list(take(nodes, member.job, member.job.workers))
    return tuple(nodes)


def open_pool(policy: str | None) -> ActorHandle[Any]:
    """The cluster's pool; it is started where there is none."""
    options = {
        "name": NAME,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_concurrency": _CALLS,
        "label_selector": here(),
    }
    pool: Any = ray.remote(Pool)
    opened: ActorHandle[Any] = pool.options(**options).remote(policy)
    return opened
