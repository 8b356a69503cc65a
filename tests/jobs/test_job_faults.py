"""Law 4 on a cluster: whatever is killed, the run ends with the weights of an undisturbed one."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nlpkit
from tests.jobs.cluster import cluster
from tests.jobs.runs import kill, processes, ranks, resumed, same, steps_logged, submit, until

if TYPE_CHECKING:
    from tests.jobs.cluster import Cluster

pytestmark = pytest.mark.slow

LONG = ("train.epochs=6", "strategy.devices=2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to, on two ranks of one thread as a worker has."""
    from tests.jobs.conftest import CONFIG

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "small.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        config = nlpkit.load_config(folder / "small.yaml", LONG)
        return nlpkit.train(config, out=folder / "run").path


ONE_FAILS = """\
import os

import nlpkit


def build(options, head, vocabulary, *, weights):
    from nlpkit_transformer.config import TransformerConfig
    from nlpkit_transformer.model import Reader

    class OneFails(Reader):
        def forward(self, *inputs, **options):
            if os.environ["RANK"] == "1":
                raise ValueError("this rank fails alone")
            return super().forward(*inputs, **options)

    options = TransformerConfig(layers=1, hidden=16, heads=2).completed(head.level)
    return OneFails(options, head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="one_fails", target="one_fails:build")
"""


VICTIMS = {
    "rank": ranks,
    "loader worker": partial(ranks, helpers=True),
    "controller": lambda pool: processes(pool, "ray::TrainController"),
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_run_survives_a_killed(
    victim: str, pool: Cluster, config: Path, storage: Path, undisturbed: Path
) -> None:
    job = submit(config, pool, storage, *LONG)
    run = storage / job.id
    until(lambda: steps_logged(run) > 20, "training")
    kill(VICTIMS[victim](pool)[-1])
    killed = time.time()
    until(lambda: resumed(run, killed), "training goes on")
    print(f"{victim}: recovered in {time.time() - killed:.1f} s")  # noqa: T201
    assert job.wait(240) == "succeeded", job.logs()
    assert same(run, undisturbed)


def test_a_run_whose_driver_was_killed_goes_on_when_submitted_again(
    pool: Cluster, config: Path, storage: Path, undisturbed: Path
) -> None:
    job = submit(config, pool, storage, *LONG)
    run = storage / job.id
    until(lambda: steps_logged(run) > 20, "training")
    kill(*processes(pool, "nlpkit_ray.driver"))
    assert job.wait(60) == "failed"
    again = submit(config, pool, storage, *LONG, resume=job.id)
    assert again.id == job.id
    assert again.wait(240) == "succeeded", again.logs()
    assert "resumes after step" in again.logs()
    assert same(run, undisturbed)


def test_a_run_survives_a_lost_node(config: Path, storage: Path, undisturbed: Path) -> None:
    with cluster(0) as started:
        first = started.add_node(2)
        job = submit(config, started, storage, *LONG)
        run = storage / job.id
        until(lambda: steps_logged(run) > 20, "training")
        helpers = processes(started, "ray::Desk", "ray::Pool", "ray::TrainController")
        assert set(helpers) <= set(started.processes(0))  # else luck decides
        started.kill(first)
        killed = time.time()
        started.start_node(2)
        until(lambda: resumed(run, killed), "training goes on")
        print(f"node: recovered in {time.time() - killed:.1f} s")  # noqa: T201
        assert job.wait(240) == "succeeded", job.logs()
    assert same(run, undisturbed)


def test_ranks_do_not_wait_for_one_that_has_failed_for_good(
    pool: Cluster, config: Path, storage: Path
) -> None:
    (config.parent / "one_fails.py").write_text(ONE_FAILS)
    model = ("plugins=[one_fails.py]", "model={name: one_fails}", "train.learning_rate=0.001")
    job = submit(config, pool, storage, "strategy.devices=2", *model)
    assert job.wait(120) == "failed"
    assert "this rank fails alone" in " ".join(job.logs().split())
