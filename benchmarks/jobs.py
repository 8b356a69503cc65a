"""How a pool behaves, on a cluster of this machine: a section of docs/pool.md (`make bench-jobs`).

Three measurements: how long a job takes to start, beside a script that does the same under Ray
alone; forty jobs at once, with the pool and drivers killed meanwhile; what a job that waits costs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import nlpkit
from benchmarks.crowd import GPUS, USERS, crowd
from benchmarks.page import processor, put, table
from tests.jobs.cluster import Cluster, cluster
from tests.jobs.runs import processes

REPOSITORY = Path(__file__).parents[1]
CONFIG = {
    "name": "small",
    "data": "sample",
    "precision": "fp32",
    "model": {"name": "transformer", "layers": 2, "hidden": 32, "heads": 2, "dropout": 0},
    "train": {"epochs": 2, "log_every": 1},
    "observers": [],
}
TEXT = """
Measured by `make bench-jobs` on one machine of {cores} cores ({processor}): a head with {gpus}
logical GPUs, and a small Transformer on the sample with gloo. Nearly all the time goes into
importing torch, once for each process.

**How long a job takes to start**: from the command to the first training step, beside
`ray job submit` of a script that prepares the same run and gives it to Ray Train; medians of
{rounds}, in turn. The checks are those before anything is queued; the ratio is without them.

{starts}

**A crowd**: {many} jobs of 1, 2 and 4 GPUs from {users} users, submitted within {submitted:.0f} s,
one in eight of them with high priority; {victims} drivers killed at random, and the pool's actor
twice. {succeeded} jobs succeeded, all but those killed. No two processes had the same GPU at a
time, as they said themselves ten times a second ({claims} processes), and no job was overtaken
more than {overtaken} times. While somebody waited, {waited:.0f} s long, {share:.0%} of the GPU time
was under a lease. A killed pool was back and knew all jobs after {gap:.1f} s at most.

**What a job that waits costs** the head: {driver:.0f} MB for its driver and {supervisor:.0f} MB for
the process that Ray watches it with, not counting what processes share.
"""
BARE = """
import sys
from pathlib import Path
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

def rank(told):
    from nlpkit.worker import work
    work(Path(told["run"]), lambda: False)

if __name__ == "__main__":
    import nlpkit
    from nlpkit.cli.render import Terminal
    from nlpkit.plugin.host import Host
    from nlpkit.run.start import Start
    run = Path(sys.argv[1])
    run.mkdir(parents=True)
    config, host = nlpkit.load_config("config.yaml"), Host.discover()
    start = Start(config=config, host=host, folder=run, terminal=Terminal(), resume=False)
    start.ready(None)
    scaling = ScalingConfig(
        num_workers=int(sys.argv[2]), use_gpu=True, resources_per_worker={"GPU": 1}
    )
    TorchTrainer(
        rank,
        train_loop_config={"run": str(run)},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=scaling,
        run_config=RunConfig(name=run.name, storage_path=str(run.parent / "ray")),
    ).fit()
"""


# How long a job takes to start.


def starts(pool: Cluster, folder: Path, ranks: int, rounds: int) -> list[str]:
    """A row: how long until the first training step, of nlpkit's job and the bare one, in turn."""
    env = {**os.environ, "RAY_ADDRESS": pool.address}
    source = folder / "bare"
    source.mkdir(exist_ok=True)
    (source / "train.py").write_text(BARE)
    plain = {**CONFIG, "strategy": {"name": "ddp", "devices": ranks}}
    (source / "config.yaml").write_text(json.dumps(plain))
    ours: list[tuple[float, float]] = []
    bare: list[float] = []
    for number in range(rounds):
        storage = folder / f"ours-{ranks}-{number}"
        storage.mkdir()
        config = folder / "config.yaml"
        config.write_text(json.dumps({**plain, "launch": {"name": "ray", "storage": str(storage)}}))
        script = "import sys; from nlpkit.cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", script, "submit", str(config), "--wait"]
        took, log = _first(command, env, lambda at=storage: at.glob("nlpkit-*/metrics.jsonl"))
        checked = re.search(r"checked the cluster in ([\d.]+) s", log)
        if not checked:
            raise RuntimeError(log)
        ours.append((took, float(checked[1])))
        run = folder / f"bare-{ranks}-{number}"
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "job", "submit", "--working-dir", str(source), "--"]
        command += ["python", "train.py", str(run), str(ranks)]
        bare.append(_first(command, env, lambda at=run: at.glob("metrics.jsonl"))[0])
        print(ranks, ours[-1], bare[-1], file=sys.stderr, flush=True)
    middle = statistics.median
    whole, checks = middle(took for took, _ in ours), middle(checked for _, checked in ours)
    rest = middle(took - checked for took, checked in ours)
    return [
        str(ranks),
        f"{whole:.1f} s",
        f"{checks:.1f} s",
        f"{middle(bare):.1f} s",
        f"{rest / middle(bare):.2f}",
    ]


def _first(
    command: list[str], env: Mapping[str, str], found: Callable[[], Iterator[Path]]
) -> tuple[float, str]:
    """Seconds until a command's run has logged a step, and what it said once it has ended."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        while not any(path.stat().st_size for path in found()):
            if process.poll():
                log.seek(0)
                raise RuntimeError(log.read().decode())
            time.sleep(0.05)
        took = time.monotonic() - began
        process.wait()
        log.seek(0)
        return took, log.read().decode()


# What a job that waits costs.


def waiting_memory(pool: Cluster, folder: Path, many: int) -> tuple[float, float]:
    """Megabytes of a waiting driver, and of the supervisor that Ray starts for it."""
    storage = folder / "memory"
    storage.mkdir()
    first = nlpkit.load_config(_long(folder, storage, GPUS))
    jobs = [nlpkit.submit(first, address=pool.address)]
    while "starts " not in jobs[0].logs():
        time.sleep(0.5)
    jobs += [nlpkit.submit(first, address=pool.address) for _ in range(many)]
    while not all(job.place() for job in jobs[1:]):
        time.sleep(0.5)
    time.sleep(5)
    drivers = [_unique(pid) for pid in processes(pool, "nlpkit_ray.driver")]
    supervisors = [_unique(pid) for pid in processes(pool, "ray::JobSupervisor", "ray::_ray_int")]
    for job in reversed(jobs):
        job.stop()
    for job in jobs:
        job.wait()
    return statistics.median(drivers), statistics.median(supervisors)


def _long(folder: Path, storage: Path, ranks: int) -> Path:
    path = folder / "long.yaml"
    launch = {"name": "ray", "storage": str(storage)}
    tree = {**CONFIG, "strategy": {"name": "ddp", "devices": ranks}, "launch": launch}
    path.write_text(json.dumps({**tree, "train": {"epochs": 2000}}))
    return path


def _unique(pid: int) -> float:
    """Megabytes that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = [line.split() for line in lines if line.startswith("Private_")]
    return sum(int(size[1]) for size in sizes) / 1e3


def main() -> None:
    """Measures all, and writes the section."""
    parser = argparse.ArgumentParser(prog="benchmarks.jobs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--killed", type=int, default=13)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nlpkit-") as name:
        folder = Path(name)
        with cluster(GPUS) as pool:
            rows = [starts(pool, folder, ranks, options.rounds) for ranks in (1, GPUS)]
            driver, supervisor = waiting_memory(pool, folder, 4)
        with cluster(GPUS) as pool:
            crowded = crowd(pool, folder, many=options.jobs, killed=options.killed)
    watch = crowded["watch"]
    overtakes = watch.overtakes()
    share, waited = watch.share()
    succeeded = [job for job, state in crowded["states"].items() if state == "succeeded"]
    failed = set(crowded["states"]) - set(succeeded)
    unfair = [
        (name, other)
        for name, others in overtakes.items()
        for other in others
        if watch.jobs[other].gpus >= watch.jobs[name].gpus
    ]
    for each in (crowded["states"], crowded["victims"], watch.jobs, overtakes, watch.gaps):
        print(each, file=sys.stderr, flush=True)
    faults = {
        "failed, and nobody killed the driver": failed - set(crowded["victims"]),
        "had the same GPU at a time": crowded["twice"],
        "who waited was overtaken by one that needs as much": unfair,
        "more under a lease than there is": max(used for _, used, _, _ in watch.samples) > GPUS,
        "more in use than there is": max(placed for _, _, placed, _ in watch.samples) > GPUS,
    }
    if any(faults.values()):
        raise RuntimeError(str({what: found for what, found in faults.items() if found}))
    titles = ["processes", "`nlpkit submit`", "its checks", "Ray alone", "ratio"]
    text = TEXT.format(
        cores=os.cpu_count(),
        processor=processor(),
        gpus=GPUS,
        rounds=options.rounds,
        starts=table(titles, rows),
        many=options.jobs,
        users=len(USERS),
        submitted=crowded["submitted"],
        victims=len(crowded["victims"]),
        succeeded=len(succeeded),
        claims=crowded["claims"],
        overtaken=max(map(len, overtakes.values())),
        waited=waited,
        share=share,
        gap=max(watch.gaps),
        driver=driver,
        supervisor=supervisor,
    )
    put("Jobs, measured", text, path=REPOSITORY / "docs" / "pool.md")


if __name__ == "__main__":
    main()
