from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import nlpkit
from nlpkit.checkpoint.lock import alone
from nlpkit.cli.main import main
from tests.test_runs import CONFIG, ROWS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NLPKIT_RUNS", str(tmp_path / "mine"))
    return tmp_path / "mine"


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["runs", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_runs_are_listed_with_what_they_are_of_and_how_they_stand(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = nlpkit.train(CONFIG, data={"train": ROWS})
    shutil.copytree(run.path, folder / "half")
    (folder / "half" / "result.json").unlink()
    (folder / "broken").mkdir()
    (folder / "broken" / "environment.json").write_text("{")
    (folder / "broken" / "config.yaml").write_bytes(b"\xff")
    (folder / "no-run").mkdir()
    for at, name in enumerate(("broken", "half", "tiny")):
        os.utime(folder / name / "environment.json", (at, at))
    found = listed(capsys)
    assert list(found) == ["broken", "half", "tiny"]
    accuracy = run.metrics["validation"]["accuracy"]
    assert found["tiny"] == {
        "name": "tiny",
        "when": found["tiny"]["when"],
        "data": "in memory",
        "model": "transformer",
        "metric": {"accuracy": accuracy},
        "state": "finished",
        "path": str(run.path),
    }
    assert found["tiny"]["when"][:4] == "1970"
    assert found["half"]["state"] == f"unfinished, step {run.result['steps']}"
    assert found["half"]["metric"] == {"accuracy": accuracy}
    assert (found["broken"]["state"], found["broken"]["model"]) == ("unfinished", None)
    with alone(folder / "half", print):
        assert listed(capsys)["half"]["state"].startswith("running")
    assert main(["runs"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["name", "when", "data", "model", "metric", "state"]
    assert table[-1].split()[-2:] == [f"{accuracy:.4f}", "finished"]
    assert table[-1].split()[1] == found["tiny"]["when"][:10]
    assert table[-2].endswith(f"  step {run.result['steps']}")
    os.utime(folder / "tiny" / "environment.json")
    when = listed(capsys)["tiny"]["when"]
    assert main(["runs"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.split()[1:3] == [when[5:10], when[11:16]]
    assert len(row) + len("starter-2") - len("broken") <= 80  # beside data that lie far away


def test_a_folder_without_runs_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == {}
    assert main(["runs"]) == 0
    assert f"{folder}: there are no runs; nlpkit train makes one" in capsys.readouterr().err
