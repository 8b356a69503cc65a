"""How the pool decides, by simulation: a section of docs/pool.md and its plot (`make bench-pool`).

Nothing is launched: `schedule` is asked at every arrival and every end who may start. First come
first served is the same function with nobody overtaken, first fit with everybody overtaken.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.page import put, table
from nlpkit_ray.decide import Job, Node, Policy, Snapshot, Start, schedule, take

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "nlpkit"

DOCS = Path(__file__).parents[1] / "docs"
NODES, EACH = 32, 8
GPUS = NODES * EACH
JOBS, USERS = 10_000, 30
SIZES = {1: 0.52, 2: 0.18, 4: 0.12, 8: 0.10, 16: 0.05, 32: 0.03}
LOADS = {"just saturated": 1.0, "overloaded": 1.2}
HOUR = 3600.0
FOR_EVER = 10**9
POLICIES = {
    "first come first served": Policy(overtake=0),
    "first fit": Policy(overtake=FOR_EVER),
    "the pool": Policy(),
}
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "silver", "linewidth": 5},  # mostly under the pool's
    {"color": "C1"},
    {"color": "C0"},
)
TEXT = """
`make bench-pool` asks the function that decides, at every arrival and every end: {jobs:,} jobs of 1
to 32 GPUs ({sizes}) of {users} users, on {nodes} nodes of {each} GPUs.
Jobs arrive at random (Poisson); they run {median:.1f} hours at the median and {mean:.1f} on
average, at most 48 (log-normal). The load is the GPU time that they ask for while they arrive, as a
share of what there is. All policies get the same jobs; strict first come first served is
`overtake: 0`, and first fit has no bound. Utilisation is measured until the last arrival, waits
over all jobs.

{table}

First fit keeps GPUs busy by letting the largest gangs wait until nobody else does. In strict order
GPUs stand idle while they gather for the next gang. The pool lets {bound} later jobs go first, and
then gathers too. What that costs grows with the share of large gangs: where 5 % of the jobs are of
32 GPUs and 8 % of 16, the pool is 2.3 points below first fit at a load of 120 %.

![Waits by size of the gang, under each policy and load](pool.svg)
"""


@dataclass(frozen=True)
class Asked:
    """A job that arrives: its hours count once it has its GPUs."""

    job: Job
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of one policy.

    Attributes:
        utilisation: Share of GPU time in use, until the last arrival.
        waits: Seconds that each job waited.
        sizes: Its GPUs.
        overtaken: How many jobs that came later started before it.
    """

    utilisation: float
    waits: np.ndarray
    sizes: np.ndarray
    overtaken: np.ndarray


def arrivals(load: float, *, jobs: int = JOBS, seed: int = 0) -> list[Asked]:
    """Jobs that ask for `load` times the GPU time there is while they arrive."""
    random = np.random.default_rng(seed)
    sizes = random.choice(list(SIZES), size=jobs, p=list(SIZES.values()))
    seconds = np.minimum(random.lognormal(math.log(HOUR), 1.2, jobs), 48 * HOUR)
    gaps = random.exponential(1.0, jobs)
    times = np.cumsum(gaps) * float((sizes * seconds).sum()) / (load * GPUS * gaps.sum())
    activity = random.dirichlet(np.ones(USERS))
    users = random.choice(USERS, size=jobs, p=activity)
    return [
        Asked(
            Job(
                id=f"{number:05}",
                user=f"user-{users[number]}",
                priority=1,
                since=float(times[number]),
                least=int(sizes[number]),
                most=int(sizes[number]),
                each=1.0,
            ),
            float(seconds[number]),
        )
        for number in range(jobs)
    ]


class Simulation:
    """One policy, and the jobs that arrive."""

    def __init__(self, asked: Sequence[Asked], policy: Policy) -> None:
        self._asked = {each.job.id: each for each in asked}
        self._policy = policy
        self._nodes = [
            Node(id=str(node), total={"GPU": EACH}, free={"GPU": EACH}) for node in range(NODES)
        ]
        self._queue: list[Job] = []
        self._ends: list[tuple[float, str]] = []
        self._places: dict[str, list[float]] = {}
        self._used: list[tuple[float, float, int]] = []
        self._waits: dict[str, float] = {}
        self._overtaken = dict.fromkeys(self._asked, 0)

    def run(self) -> Outcome:
        """Until all have ended."""
        coming = [(each.job.since, each.job) for each in self._asked.values()]
        last = coming[-1][0]
        for now, job in coming:
            self._end_until(now)
            self._queue.append(job)
            self._start(now)
        self._end_until(math.inf)
        used = sum(size * (min(end, last) - min(begin, last)) for begin, end, size in self._used)
        return Outcome(
            utilisation=used / GPUS / (last - coming[0][0]),
            waits=np.array([self._waits[name] for name in self._asked]),
            sizes=np.array([each.job.least for each in self._asked.values()]),
            overtaken=np.array(list(self._overtaken.values())),
        )

    def _end_until(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            when, name = heapq.heappop(self._ends)
            given = self._places.pop(name)
            self._nodes = [
                replace(node, free={"GPU": node.free["GPU"] + back}) if back else node
                for node, back in zip(self._nodes, given, strict=True)
            ]
            self._start(when)

    def _start(self, now: float) -> None:
        """Asks who may start, and starts them. Who is far behind need not be asked about."""
        asked = 64
        while self._queue and self._free:
            jobs = self._queue[:asked]
            decisions = schedule(Snapshot(now=now, nodes=self._nodes, jobs=jobs), self._policy)
            starts = {name: found for name, found in decisions.items() if isinstance(found, Start)}
            taken = sum(found.workers for found in starts.values())
            barred = any("overtaken" in getattr(d, "reason", "") for d in decisions.values())
            if len(jobs) == len(self._queue) or barred or taken == self._free:
                self._take(now, starts)
                return
            asked *= 4

    @property
    def _free(self) -> int:
        return round(sum(node.free["GPU"] for node in self._nodes))

    def _take(self, now: float, starts: dict[str, Start]) -> None:
        left, counts = [], {}
        for found in starts.values():
            for name in found.overtakes:
                counts[name] = counts.get(name, 0) + 1
        for job in self._queue:
            if job.id not in starts:
                left.append(replace(job, overtaken=job.overtaken + counts.get(job.id, 0)))
        self._queue = left
        for name in starts:
            asked = self._asked[name]
            before = self._nodes
            after = {node.id: node for node in take(before, asked.job, asked.job.least)}
            self._nodes = [after[node.id] for node in before]
            pairs = zip(before, self._nodes, strict=True)
            self._places[name] = [old.free["GPU"] - new.free["GPU"] for old, new in pairs]
            if sum(self._places[name]) != asked.job.least or min(self._places[name]) < 0:
                raise AssertionError(f"{name} was started without room")
            end = now + asked.seconds
            heapq.heappush(self._ends, (end, name))
            self._used.append((now, end, asked.job.least))
            self._waits[name] = now - asked.job.since
            for other in left:  # counted here, whatever the policy counts
                if other.since >= asked.job.since:
                    break
                self._overtaken[other.id] += 1


def simulate(asked: Sequence[Asked], policy: Policy) -> Outcome:
    """What comes of a policy for jobs that arrive."""
    return Simulation(asked, policy).run()


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR:,.1f} h"


def _rows(load: str, outcomes: dict[str, Outcome]) -> Iterable[list[str]]:
    for name, found in outcomes.items():
        large = found.waits[found.sizes == max(SIZES)]
        yield [
            f"{load}, {LOADS[load]:.0%}",
            name,
            f"{found.utilisation:.1%}",
            _hours(float(found.waits.mean())),
            _hours(float(large.max())),
            f"{found.overtaken.max():,}",
        ]


def draw(outcomes: dict[str, dict[str, Outcome]], path: Path) -> None:
    """Draws the worst and the median wait by size of the gang."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(outcomes), figsize=(10, 4), sharey=True)
    for panel, (load, found) in zip(panels, outcomes.items(), strict=True):
        for style, (name, outcome) in zip(STYLES, found.items(), strict=True):
            waits = [outcome.waits[outcome.sizes == size] / HOUR for size in SIZES]
            places = range(len(SIZES))
            worst = [float(each.max()) for each in waits]
            median = [float(np.median(each)) for each in waits]
            panel.plot(places, worst, **style, marker="o", label=f"{name}, worst")
            panel.plot(places, median, **style, marker=".", ls=":", label=f"{name}, median")
        panel.set_title(f"{load} ({LOADS[load]:.0%} of the GPU time)")
        panel.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])
        panel.set_xlabel("GPUs of the gang")
        panel.set_yscale("symlog", linthresh=1)
        panel.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("wait in hours")
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, loc="lower center", ncols=3)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Simulates every policy under every load, and writes the section."""
    outcomes = {}
    for load, share in LOADS.items():
        asked = arrivals(share)
        outcomes[load] = {name: simulate(asked, policy) for name, policy in POLICIES.items()}
    rows = [row for load, found in outcomes.items() for row in _rows(load, found)]
    titles = ["load", "policy", "utilisation", "mean wait", "worst wait of 32 GPUs", "overtaken"]
    draw(outcomes, DOCS / "pool.svg")
    hours = [each.seconds / HOUR for each in asked]
    text = TEXT.format(
        jobs=JOBS,
        users=USERS,
        nodes=NODES,
        each=EACH,
        sizes=", ".join(f"{size}: {share:.0%}" for size, share in SIZES.items()),
        median=statistics.median(hours),
        mean=statistics.mean(hours),
        bound=Policy().overtake,
        table=table(titles, rows).strip(),
    )
    put("How the pool decides, measured", text, path=DOCS / "pool.md")


if __name__ == "__main__":
    main()
