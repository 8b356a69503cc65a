"""Many jobs at once on a cluster, drivers and the pool killed meanwhile: a part of bench-jobs."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nlpkit
from nlpkit.errors import RunError
from nlpkit_ray.client import connect
from nlpkit_ray.job import Job
from tests.jobs.cluster import Cluster
from tests.jobs.runs import processes

REPOSITORY = Path(__file__).parents[1]
GPUS = 4
USERS = ("ana", "bob", "cy")
SIZES = (1, 2, 1, 4, 2)
CLAIMS = '''

import os, threading, time
import ray

def _claim(gpus, folder):
    """Says every tenth of a second which GPUs this process has."""
    with open(f"{folder}/{os.getpid()}", "a", buffering=1) as file:
        while True:
            file.write(f"{time.time()} {' '.join(map(str, gpus))}\\n")
            time.sleep(0.1)

if ray.is_initialized() and ray.get_gpu_ids():
    _args = (ray.get_gpu_ids(), os.environ["CLAIMS"])
    threading.Thread(target=_claim, args=_args, daemon=True).start()
'''


@dataclass
class Seen:
    """What was seen of one job: the pool's words, and when they were first heard."""

    user: str
    priority: int
    since: float
    gpus: int
    waited: float | None = None
    started: float | None = None
    last: float = 0.0


@dataclass
class Watch:
    """Looks at a pool again and again, from within the cluster.

    Attributes:
        jobs: What was seen of each job.
        samples: Time, GPUs under a lease, GPUs in placement groups, and how many jobs wait.
        gaps: Seconds in which the pool did not answer.
    """

    port: int
    jobs: dict[str, Seen] = field(default_factory=dict)
    samples: list[tuple[float, int, float, int]] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def run(self, ended: threading.Event) -> None:
        """Until it is told."""
        import ray

        from nlpkit_ray.pool import NAME, NAMESPACE
        from nlpkit_ray.private import groups

        silent = None
        while not ended.wait(0.2):
            try:
                pool = ray.get_actor(NAME, namespace=NAMESPACE)
                view = ray.get(pool.view.remote(), timeout=2)
            except (ValueError, ray.exceptions.RayError):
                silent = silent or time.time()
                continue
            now = time.time()
            if silent and self.jobs:
                self.gaps.append(now - silent)
            silent = None
            self._note(now, view["jobs"], sum(groups()[0].values()))

    def _note(self, now: float, jobs: list[dict[str, Any]], placed: float) -> None:
        for job in jobs:
            seen = self.jobs.setdefault(
                job["id"], Seen(job["user"], job["priority"], job["since"], int(job["least"]))
            )
            seen.last = now
            if job["workers"]:
                seen.started = seen.started or now
            else:
                seen.waited = seen.waited or now
        leased = sum(int(job["workers"] * job["each"]) for job in jobs)
        self.samples.append((now, leased, placed, sum(not job["workers"] for job in jobs)))

    def overtakes(self) -> dict[str, list[str]]:
        """Which later jobs of no higher priority started before each one that waited."""
        found: dict[str, list[str]] = {}
        for name, job in self.jobs.items():
            if job.waited is None:
                continue
            until = job.started or job.last
            found[name] = [
                other
                for other, each in self.jobs.items()
                if each.started
                and job.waited < each.started < until
                and each.priority <= job.priority
                and each.since > job.since
            ]
        return found

    def share(self) -> tuple[float, float]:
        """The share of GPU time under a lease while a job waits, and how many seconds that was."""
        leased = total = 0.0
        for (now, used, _, waiting), (then, *_) in pairwise(self.samples):
            if waiting:
                leased += used * (then - now)
                total += GPUS * (then - now)
        return leased / total, total / GPUS


def crowd(pool: Cluster, folder: Path, *, many: int, killed: int) -> dict[str, Any]:
    """Submits many jobs, kills some drivers and twice the pool, and tells what came of it."""
    import ray

    claims, storage = folder / "claims", folder / "crowd"
    claims.mkdir()
    storage.mkdir()
    example = REPOSITORY / "examples" / "single_file_plugin"
    (folder / "my_model.py").write_text((example / "my_model.py").read_text() + CLAIMS)
    (folder / "bag.yaml").write_text((example / "bag.yaml").read_text())
    ray.init(address=f"127.0.0.1:{pool.port}", logging_level=40, log_to_driver=False)
    watch, ended = Watch(pool.port), threading.Event()
    thread = threading.Thread(target=watch.run, args=[ended])
    thread.start()
    began = time.monotonic()
    try:
        with ProcessPoolExecutor(len(USERS), get_context("spawn")) as users:
            asked = [
                users.submit(_submitted, pool.address, folder, storage, claims, number)
                for number in range(many)
            ]
        connection = connect(pool.address)
        jobs = [Job(each.result(), connection, str(storage)) for each in asked]
        took = time.monotonic() - began
        victims = _kill(pool, jobs, killed)
        states = {job.id: job.wait() for job in jobs}
    finally:
        ended.set()
        thread.join()
        ray.shutdown()
    return {
        "submitted": took,
        "states": states,
        "victims": victims,
        "watch": watch,
        "twice": _twice(claims),
        "claims": len(list(claims.iterdir())),
        "seconds": time.monotonic() - began,
    }


def _submitted(address: str, folder: Path, storage: Path, claims: Path, number: int) -> str:
    launch = {
        "name": "ray",
        "storage": str(storage),
        "user": USERS[number % len(USERS)],
        "priority": "high" if number % 8 == 7 else "normal",
        "env": {"CLAIMS": str(claims)},
    }
    given = [
        f"strategy={{name: ddp, devices: {SIZES[number % len(SIZES)]}}}",
        f"launch={json.dumps(launch)}",
        "train.epochs=2",
    ]
    config = nlpkit.load_config(folder / "bag.yaml", given)
    while True:
        try:
            return str(nlpkit.submit(config, address=address).id)
        except RunError as error:  # the machine is too busy to answer
            print(error, file=sys.stderr, flush=True)


def _kill(pool: Cluster, jobs: list[Job], many: int) -> list[str]:
    """Kills drivers at random, and the pool's actor after a third and two thirds of them."""
    chance, victims = random.Random(0), []
    left = list(jobs)
    while left and len(victims) < many:
        time.sleep(chance.uniform(2, 10))
        job = left.pop(chance.randrange(len(left)))
        for pid in processes(pool, "nlpkit_ray.driver"):
            with suppress(OSError):
                if job.id.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    victims.append(job.id)
                    if len(victims) in (many // 3, 2 * many // 3):
                        for actor in processes(pool, "ray::Pool"):
                            os.kill(actor, signal.SIGKILL)
                    break
    return victims


def _twice(claims: Path) -> list[str]:
    """GPUs that two processes had at a time."""
    held = defaultdict(list)
    for path in claims.iterdir():
        lines = [line.split() for line in path.read_text().splitlines()]
        for gpu in lines[0][1:] if lines else ():
            held[gpu].append((float(lines[0][0]), float(lines[-1][0]), path.name))
    return [
        f"GPU {gpu}: {one[2]} and {other[2]}"
        for gpu, spans in held.items()
        for one, other in pairwise(sorted(spans))
        if other[0] < one[1]
    ]
