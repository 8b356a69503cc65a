"""A run that goes on from its backup, where nothing else of it is left."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import nlpkit
from tests.checkpoint.test_s3 import s3, server  # noqa: F401 - fixtures
from tests.training.test_resume import DATA, STOPPER, stopped
from tests.training.test_trainer import config, same, weights


@pytest.fixture(params=[pytest.param("s3", marks=pytest.mark.slow), "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where backups go: a bucket of a real endpoint, or a folder that stands for a mounted one."""
    if request.param == "folder":
        return str(tmp_path / "mounted")
    request.getfixturevalue("s3")
    return "s3://models/runs"


@pytest.fixture
def settings(place: str, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "stopper.py").write_text(STOPPER)
    return {
        "dropout": 0.3,
        "plugins": [str(tmp_path / "stopper.py")],
        "device": "cpu",
        "eval": {"every": 4},
        "checkpoint": {"every": 3, "backup": place},
    }


def test_another_machine_goes_on_and_ends_with_the_same_weights(settings, tmp_path, capsys):
    whole = nlpkit.train(
        config(**{**settings, "checkpoint": {"every": 3}}), data=DATA, out=tmp_path / "whole"
    )
    stopped(tmp_path / "here" / "run", 10, **settings)
    shutil.rmtree(tmp_path / "here")
    there = tmp_path / "there" / "run"
    run = nlpkit.train(config(**settings), data=DATA, out=there, resume=True)
    assert "resumes after step 11 of 16" in capsys.readouterr().err
    assert same(weights(run), weights(whole))
    assert run.history == whole.history
    assert run.metrics == whole.metrics
    report = run.result["checkpoints"]["backup"]
    assert report["copied"] > 0
    assert (report["failed"], report["waiting"]) == (0, [])


def test_a_new_run_does_not_write_over_the_backup_of_another(settings, tmp_path):
    stopped(tmp_path / "here" / "run", 5, **settings)
    with pytest.raises(nlpkit.InputError, match="has checkpoints of another run"):
        nlpkit.train(config(**settings), data=DATA, out=tmp_path / "there" / "run")
    assert not (tmp_path / "there" / "run").exists()


def test_a_backup_that_is_down_stops_no_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nlpkit.training.saving.BACKUP_PATIENCE", 0.5)
    (tmp_path / "file").write_text("no folder")
    backup = {"every": 3, "backup": str(tmp_path / "file")}
    run = nlpkit.train(config(checkpoint=backup), data=DATA, out=tmp_path / "run")
    assert run.result["steps"] == 16
    report = run.result["checkpoints"]["backup"]
    assert report["copied"] == 0
    assert report["failed"] > 0
    assert report["waiting"]
    assert "could not be copied" in capsys.readouterr().err
