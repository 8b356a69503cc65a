"""What a run folder has before training, and what is refused before it has anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import nlpkit
from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.plugin.host import Host
from nlpkit.run.start import Start, _as_stored
from tests.bundle.bundles import PLUGIN

ROWS = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(8)]
CONFIG: dict[str, Any] = {
    "name": "tiny",
    "data": {"validation": None},
    "tokenizer": {"name": "char", "max_length": 16},
    "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2},
    "device": "cpu",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def start(folder: Path, *, resume: bool = False, **changes: Any) -> Start:
    return Start(
        config=load_config({**CONFIG, **changes}),
        host=Host.discover(),
        folder=folder,
        terminal=Terminal(),
        resume=resume,
    )


def test_a_worker_finds_all_that_it_needs(folder):
    config = start(folder).ready({"train": ROWS})
    assert load_config(folder / "config.yaml").model_dump() == config.model_dump()
    lines = (folder / "config.yaml").read_text().splitlines()
    assert [line.split(" (")[0] for line in lines if line.startswith("# model")] == [
        "# model transformer: transformer"
    ]
    environment = json.loads((folder / "environment.json").read_text())
    assert Path(environment["tokens"]).is_dir()
    assert environment["token_addresses"] == {"train": ""}  # as in memory
    assert environment["packages"]["nlpkit-sdk"] == nlpkit.__version__
    lines = (folder / "inputs" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)[1] for line in lines] == ROWS


def test_what_is_chosen_is_named_by_the_task_where_the_config_does_not(folder):
    assert start(folder).ready({"train": ROWS}).eval.monitor == "accuracy"
    assert start(folder, eval={"monitor": "loss"}).ready({"train": ROWS}).eval.monitor == "loss"


def test_a_single_file_plugin_is_copied_and_the_copy_is_named(folder, tmp_path):
    (tmp_path / "bag.py").write_text(PLUGIN.replace("{name}", "bag"))
    given = start(folder, plugins=[str(tmp_path / "bag.py")], model="bag")
    assert given.ready({"train": ROWS}).plugins == ("plugins/bag.py",)
    assert (folder / "plugins" / "bag.py").read_bytes() == (tmp_path / "bag.py").read_bytes()


def test_rows_that_are_left_out_are_written_down(folder):
    bad = {"text": "text", "label": None}
    data = {"on_bad_rows": "quarantine", "validation": None}
    start(folder, data=data).ready({"train": [*ROWS, bad]})
    (rejected,) = folder.rglob("rejected*")
    assert json.loads(rejected.read_text())["values"] == bad


def test_nothing_is_stored_where_something_cannot_be_used(folder):
    with pytest.raises(nlpkit.InputError, match="cuda:63 is not there"):
        start(folder, device="cuda:63").ready({"train": ROWS})
    with pytest.raises(nlpkit.InputError, match="train is missing"):
        start(folder).ready({"test": ROWS})
    assert not (folder / "config.yaml").exists()
    assert not (folder / "environment.json").exists()


def test_rows_of_a_run_that_failed_early_are_replaced(folder):
    start(folder).ready({"train": ROWS, "test": ROWS})
    start(folder).ready({"train": ROWS[:4]})
    assert [path.name for path in (folder / "inputs").iterdir()] == ["train.jsonl"]
    assert len((folder / "inputs" / "train.jsonl").read_text().splitlines()) == 4


def test_a_run_without_a_checkpoint_starts_anew_and_says_so(folder, capsys):
    start(folder).ready({"train": ROWS})
    config = start(folder, resume=True).ready(None)  # with the rows that are there
    assert config.data.train == str(folder / "inputs" / "train.jsonl")
    said = capsys.readouterr().err
    assert f"{folder}: nothing to resume; starts from the beginning" in said


def test_a_backup_of_another_run_is_left_alone(folder, tmp_path):
    backup = tmp_path / "backup"
    (backup / "run" / "step-00000003").mkdir(parents=True)
    (backup / "run" / "step-00000003" / "manifest.json").write_text("{}")
    given = start(folder, checkpoint={"backup": str(backup)})
    with pytest.raises(nlpkit.InputError, match="has checkpoints of another run; go on with it"):
        given.ready({"train": ROWS})


def test_what_signs_a_location_is_not_stored():
    config = load_config({**CONFIG, "data": {"train": "https://host/a.csv?signature=s3cret"}})
    assert _as_stored(config, None).data.train == "https://host/a.csv?…"


def test_a_finished_run_refuses_what_it_was_not_trained_with(folder):
    start(folder).ready({"train": ROWS})
    start(folder, resume=True).refuse_changes({"train": ROWS})
    start(folder, resume=True, checkpoint={"keep": 1}).refuse_changes(None)
    with pytest.raises(nlpkit.ConfigError, match="seed"):
        start(folder, resume=True, seed=14).refuse_changes(None)
    with pytest.raises(nlpkit.InputError, match="the train rows are not those that the run was"):
        start(folder, resume=True).refuse_changes({"train": ROWS[1:]})
