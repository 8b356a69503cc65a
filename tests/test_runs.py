from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import nlpkit
from nlpkit.config.load import load_config

ROWS = [
    {"text": f"{text} {number}", "label": label}
    for number in range(20)
    for text, label in (("where is my parcel", "track"), ("give my money back", "refund"))
]
CONFIG: dict[str, Any] = {
    "name": "tiny",
    "task": "sequence",
    "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2},
    "tokenizer": {"name": "char", "max_length": 32},
    "train": {"epochs": 1},
    "loader": {"workers": 0},
    "observers": [],
}


def test_a_run_folder_holds_what_the_run_was(tmp_path):
    run = nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path / "run")
    config = load_config(run.path / "config.yaml")
    assert config.precision in ("fp32", "bf16")
    assert config.train.learning_rate == 5e-4
    assert "# model transformer: transformer of nlpkit-sdk" in (run.path / "config.yaml").read_text()
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["device"] == "cpu" or torch.cuda.is_available()
    assert environment["packages"]["torch"] == torch.__version__
    names = {path.name for path in run.path.iterdir()}
    assert names >= {"config.yaml", "environment.json", "metrics.jsonl", "result.json", "bundle"}
    assert run.history[-1]["split"] == "validation"
    assert run.metrics["validation"]["accuracy"] == run.history[-1]["accuracy"]


def test_a_stored_config_trains_the_same_model_again(tmp_path):
    run = nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path / "run")
    again = nlpkit.train(run.path / "config.yaml", out=tmp_path / "again")
    weights = [(each.bundle / "model.safetensors").read_bytes() for each in (run, again)]
    assert weights[0] == weights[1]


def test_exports_that_a_config_lists_are_written_with_the_run(tmp_path):
    config = {**CONFIG, "export": ["state_dict"]}
    run = nlpkit.train(config, data={"train": ROWS}, out=tmp_path / "run")
    state = torch.load(run.bundle / "state_dict" / "model.pth", weights_only=True)
    assert state["head.linear.weight"].shape == (2, 16)


def test_quarantined_rows_are_in_the_run_folder(tmp_path):
    config = {**CONFIG, "data": {"on_bad_rows": "quarantine"}}
    rows = [*ROWS, {"text": "", "label": "track"}]
    run = nlpkit.train(config, data={"train": rows}, out=tmp_path / "run")
    (line,) = (run.path / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["address"] == "train row 40"
    assert run.result["data"]["rejected"] == 1


def test_runs_of_one_name_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("NLPKIT_RUNS", str(tmp_path / "mine"))
    paths = [nlpkit.train(CONFIG, data={"train": ROWS}).path for _ in range(2)]
    assert paths == [tmp_path / "mine" / "tiny", tmp_path / "mine" / "tiny-2"]


def test_an_existing_run_is_refused(tmp_path):
    nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path / "run")
    with pytest.raises(nlpkit.InputError, match="there is a run already; choose another --out"):
        nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": [{"text": "a", "label": None}]}, 'train row 0: column "label"'),
        ({"trian": ROWS}, "data: trian; give rows by split"),
        ({"train": []}, "no train rows were given"),
    ],
)
def test_bad_input_leaves_no_run_folder_behind(tmp_path, data, message):
    with pytest.raises(nlpkit.InputError, match=message):
        nlpkit.train(CONFIG, data=data, out=tmp_path / "run")
    assert not Path(tmp_path / "run").exists()
