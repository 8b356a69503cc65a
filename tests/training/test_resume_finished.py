"""A finished run that is resumed: it stays as it is, and is asked for nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

import nlpkit
from tests.training.test_resume import DATA, resumed
from tests.training.test_trainer import ROWS, config


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"device": "cpu", "train": {"epochs": 1, "batch_size": 8}}


def test_a_finished_run_stays_as_it_is(tmp_path, changes, capsys):
    run = nlpkit.train(config(**changes), data=DATA, out=tmp_path / "run")
    before = (run.path / "result.json").read_bytes()
    assert resumed(tmp_path / "run", **changes).path == run.path
    assert "this run is finished" in capsys.readouterr().err
    other = {**changes, "train": {**changes["train"], "epochs": 9}, "checkpoint": {"keep": 1}}
    with pytest.raises(nlpkit.ConfigError) as caught:
        resumed(tmp_path / "run", None, seed=14, export=["state_dict"], **other)
    assert [problem.key for problem in caught.value.problems] == ["seed", "train.epochs"]
    with pytest.raises(nlpkit.InputError, match="the train rows are not those"):
        resumed(tmp_path / "run", {**DATA, "train": ROWS[1:]}, **changes)
    assert resumed(tmp_path / "run", None, **changes, observers=[]).path == run.path
    assert (run.path / "result.json").read_bytes() == before


def test_of_a_finished_run_the_files_of_rows_may_be_gone_but_be_no_others(tmp_path, changes):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    changes |= {"data": {"train": str(path), "validation": None}, "train": {"max_steps": 1}}
    nlpkit.train(config(**changes), out=tmp_path / "run")
    path.unlink()
    for train in (path, "/elsewhere/rows.jsonl"):
        changes["data"]["train"] = str(train)
        assert resumed(tmp_path / "run", None, **changes).result["steps"] == 1
    changes["data"]["train"] = str(tmp_path / "others.jsonl")
    with pytest.raises(nlpkit.ConfigError, match=r"data.train: is not what the run was"):
        resumed(tmp_path / "run", None, **changes)
