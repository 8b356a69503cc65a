"""From a config to a run folder, through a cluster: what a user types, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nlpkit
from nlpkit.cli.main import main
from nlpkit_ray.client import connect
from tests.jobs.runs import distance, submit, training_lines

if TYPE_CHECKING:
    from tests.jobs.cluster import Cluster


def test_what_a_user_types_from_submitting_to_predicting(
    pool: Cluster,
    config: Path,
    storage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", pool.address)
    monkeypatch.setenv("NLPKIT_USER", "ada")

    def typed(*arguments: str) -> str:
        code = main(arguments)
        out, err = capfd.readouterr()
        assert code == 0, out + err
        return out

    launch = f"{{name: ray, storage: {storage}, gpus_per_worker: 2}}"
    given = json.loads(typed("submit", str(config), f"launch={launch}", "--wait", "--json"))
    job = given["id"]
    assert given["storage"] == str(storage)
    log = typed("logs", job, "--follow")
    assert "starts 1 worker" in log
    assert "epoch 2" in log
    assert log.rstrip().endswith(f"Next:\n  nlpkit fetch {job}")  # no folder of a node
    assert connect(pool.address).info(job).metadata["job_name"] == "small"
    assert typed("logs", job) == log
    found = json.loads(typed("status", job, "--json"))
    assert [found[key] for key in ("status", "user", "name")] == ["succeeded", "ada", "small"]
    assert job in typed("jobs")
    assert json.loads(typed("pool", "--json"))["nodes"][0]["total"]["GPU"] == 4
    run = nlpkit.Run(Path(typed("fetch", job, "--out", str(tmp_path / "fetched")).strip()))
    assert "label" in typed("predict", str(run.path), "where is my parcel?")


def test_rows_in_memory_train_on_a_cluster(
    pool: Cluster, config: Path, storage: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"{word} {n}", "label": word} for n in range(20) for word in ("yes", "no")]
    given = ["launch.gpus_per_worker=0", f"launch.storage={storage}", "train.max_steps=2"]
    job = nlpkit.submit(
        nlpkit.load_config(config, given), {"train": rows, "test": rows[:4]}, address=pool.address
    )
    assert job.wait(240) == "succeeded", job.logs()
    run = job.fetch(tmp_path / "fetched")
    assert run.result["data"]["rows"] == {"train": 36, "validation": 4, "test": 4}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of this machine."""
    from tests.jobs.conftest import CONFIG

    folder = tmp_path_factory.mktemp("here")
    (folder / "small.yaml").write_text(CONFIG)
    return nlpkit.train(folder / "small.yaml", out=folder / "run").path


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_run_on_a_cluster_is_the_run_of_one_machine(
    ranks: int, pool: Cluster, config: Path, storage: Path, tmp_path: Path, here: Path
) -> None:
    job = submit(config, pool, storage, f"strategy.devices={ranks}")
    assert job.wait(240) == "succeeded", job.logs()
    run = job.fetch(tmp_path / "fetched")
    for mine, theirs in zip(training_lines(here)[:10], training_lines(run.path)[:10], strict=True):
        for key in ("loss", "grad_norm"):
            assert theirs[key] == pytest.approx(mine[key], rel=1e-5)
    assert distance(here, run.path) < 1e-4
    names = [
        {path.relative_to(each).as_posix() for path in each.rglob("*") if path.is_file()}
        for each in (here, run.path)
    ]
    assert names[0] == names[1]
    assert job.result()["steps"] == run.result["steps"]
