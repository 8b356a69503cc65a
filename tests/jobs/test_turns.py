"""Jobs that wait, are stopped, take the size that is free, or have had their hours."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nlpkit.cli.main import main
from nlpkit.errors import RunError
from tests.jobs.runs import same, steps_logged, submit, training_lines, until

if TYPE_CHECKING:
    from tests.jobs.cluster import Cluster

FOR_EVER = "train.epochs=2000"


def test_a_job_that_waits_says_so_and_can_be_stopped_and_a_running_one_saves(
    pool: Cluster,
    config: Path,
    storage: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = submit(config, pool, storage, FOR_EVER, "strategy.devices=2", "launch.user=ada")
    until(lambda: steps_logged(storage / first.id) > 10, "training")
    second = submit(config, pool, storage, "strategy.devices=4", "launch.user=bob")
    until(lambda: second.status() == "waiting", "it waits")
    reason = "waits, place 1: 4 workers of 1 GPU each; 2 of 4 GPUs are free"
    assert second.place() == reason
    assert main(["pool", "--address", pool.address]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"runs {first.id} small ada normal 2 GPU" in shown
    assert f"1 {second.id} small bob normal 4 GPU" in shown
    third = submit(config, pool, storage, "launch.user=bob")  # it fits, and goes first
    assert third.wait(240) == "succeeded", third.logs()
    assert main(["pool", "--address", pool.address, "--json"]) == 0
    jobs = {job["id"]: job for job in json.loads(capsys.readouterr().out)["pool"]["jobs"]}
    assert [jobs[job.id]["overtaken"] for job in (first, second)] == [0, 1]

    asked = time.monotonic()
    second.stop()
    assert second.wait(60) == "stopped"
    assert time.monotonic() - asked < 10
    assert not (storage / second.id / "metrics.jsonl").exists()

    steps = steps_logged(storage / first.id)
    first.stop()
    assert first.wait(60) == "stopped"
    saved = max((storage / first.id / "checkpoints").glob("step-*")).name
    assert int(saved.removeprefix("step-")) >= steps
    assert "--resume" in first.logs()
    with pytest.raises(RunError, match=f"{first.id}: stopped"):
        first.result()
    run = first.fetch(tmp_path / "stopped")
    assert (run.path / "checkpoints" / saved).is_dir()


def test_hours_that_are_over_save_and_fail_and_can_be_had_again(
    pool: Cluster, config: Path, storage: Path
) -> None:
    job = submit(config, pool, storage, FOR_EVER, "launch.max_hours=0.006")
    assert job.wait(120) == "failed"
    assert "launch.max_hours: 0.006 are over; what was learned is saved" in job.logs()
    steps = steps_logged(storage / job.id)
    assert steps
    again = submit(config, pool, storage, FOR_EVER, resume=job.id)
    until(lambda: steps_logged(storage / job.id) > steps + 5, "it goes on")
    assert "resumes after step" in again.logs()
    again.stop()
    assert again.wait(60) == "stopped"


def test_an_elastic_run_takes_what_is_free_and_the_batches_stay_the_same(
    pool: Cluster, config: Path, storage: Path
) -> None:
    other = submit(config, pool, storage, FOR_EVER, "strategy.devices=2")
    until(lambda: steps_logged(storage / other.id) > 0, "training")
    steady = ("train.schedule=constant", "train.warmup_ratio=0")  # the same for few and many epochs
    elastic = ("strategy.devices=[1, 4]", "train.epochs=60", *steady)
    job = submit(config, pool, storage, *elastic)
    until(lambda: steps_logged(storage / job.id) > 10, "training")
    assert "starts 2 workers" in job.logs()
    for each in (job, other):
        each.stop()
    assert [each.wait(60) for each in (job, other)] == ["stopped", "stopped"]
    steps = steps_logged(storage / job.id)
    until(lambda: json.loads(_pool(pool))["nodes"][0]["free"]["GPU"] == 4, "all is free")
    again = submit(config, pool, storage, *elastic, resume=job.id)
    until(lambda: steps_logged(storage / job.id) > steps + 10, "it goes on")
    assert "starts 4 workers" in again.logs()
    again.stop()
    assert again.wait(60) == "stopped"
    whole = submit(config, pool, storage, "strategy.devices=1", "train.epochs=2", *steady)
    assert whole.wait(240) == "succeeded", whole.logs()
    mixed, plain = (training_lines(storage / each.id)[:58] for each in (job, whole))
    assert len(mixed) > steps
    for one, other_line in zip(mixed, plain, strict=False):
        assert one["step"] == other_line["step"]
        assert one["loss"] == pytest.approx(other_line["loss"], rel=1e-4)


def _pool(pool: Cluster) -> str:
    from nlpkit_ray.client import connect
    from nlpkit_ray.preflight import ask

    return json.dumps(ask(connect(pool.address), {}))


def test_a_job_that_was_stopped_ends_as_one_that_was_not(
    pool: Cluster, config: Path, storage: Path
) -> None:
    long = ("train.epochs=8", "strategy.devices=2")
    one, other = (submit(config, pool, storage, *long) for _ in range(2))
    until(lambda: steps_logged(storage / one.id) > 40, "training")
    one.stop()
    assert one.wait(60) == "stopped"
    again = submit(config, pool, storage, *long, resume=one.id)
    assert [job.wait(240) for job in (again, other)] == ["succeeded", "succeeded"], again.logs()
    assert same(storage / one.id, storage / other.id)
