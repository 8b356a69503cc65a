"""A workspace's folders: where runs, tokens and models go, and what a finished run leaves there."""

from __future__ import annotations

from pathlib import Path

import pytest

import nlpkit
from nlpkit.bundle.publish import publish
from nlpkit.cli.main import main
from nlpkit.environment import cache_folder, hub_folder, runs_folder

CONFIG = {
    "name": "small",
    "data": "sample",
    "tokenizer": {"name": "wordpiece", "vocab_size": 300},
    "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2},
    "train": {"max_steps": 2},
    "observers": [],
}


@pytest.fixture
def space(tmp_path, monkeypatch):
    for name in ("NLPKIT_RUNS", "NLPKIT_CACHE", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NLPKIT_WORKSPACE", str(tmp_path / "space"))
    return tmp_path / "space"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_workspace_sets_the_others_defaults_and_loses_to_them(space, tmp_path, monkeypatch):
    folders = (runs_folder(), cache_folder(), hub_folder())
    assert folders == (space / "models/runs", space / "data/processed", space / "models/hub")
    monkeypatch.setenv("NLPKIT_RUNS", "here")
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    assert (runs_folder(), cache_folder(), hub_folder()) == (Path("here"), tmp_path / "cache", None)


@pytest.mark.usefixtures("_asked_here")
def test_a_finished_run_is_published_and_so_is_its_export(space, capsys):
    run = nlpkit.train(CONFIG)
    final = space / "models" / "final" / "small"
    assert run.path == space / "models" / "runs" / "small"
    assert files(final) == files(run.bundle)
    assert main(["export", str(run.path), "state_dict"]) == 0
    assert (final / "state_dict").is_dir()
    assert files(final) == files(run.bundle)
    assert main(["predict", str(final), "where is it?"]) == 0
    assert "label" in capsys.readouterr().out
    assert files(final.parent) == [final.name, *(f"small/{name}" for name in files(final))]


def test_what_is_no_bundle_is_left_alone(space):
    run = nlpkit.train({**CONFIG, "name": "other"})
    final = space / "models" / "final" / "other"
    (final / "nlpkit.json").unlink()
    (final / "mine.txt").write_text("mine")
    noted: list[str] = []
    publish(run.path, noted.append)
    assert (final / "mine.txt").read_text() == "mine"
    assert "holds something that is no bundle; move it, and copy" in noted[0]


def test_a_bundle_that_cannot_be_replaced_is_still_there(space, monkeypatch):
    run = nlpkit.train({**CONFIG, "name": "kept"})
    final = space / "models" / "final" / "kept"
    before = files(final)
    rename = Path.rename

    def full(path, target):
        if path.name == "made":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    noted: list[str] = []
    publish(run.path, noted.append)
    assert "No space left on device" in noted[0]
    assert files(final.parent) == ["kept", *(f"kept/{name}" for name in before)]


def test_without_a_workspace_nothing_is_published(tmp_path):
    noted: list[str] = []
    publish(tmp_path, noted.append)
    assert not noted


def test_a_run_that_has_not_finished_is_not_published(space, tmp_path):
    publish(tmp_path, [].append)
    assert not (space / "models").exists()
