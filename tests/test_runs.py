from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

import nlpkit
from nlpkit.config.load import load_config
from nlpkit.run.train import _claimed

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
    text = (run.path / "config.yaml").read_text()
    assert "# model transformer: transformer (nlpkit-sdk" in text
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["device"].startswith("cpu") or torch.cuda.is_available()
    assert environment["packages"]["torch"] == version("torch")
    names = {path.name for path in run.path.iterdir()}
    assert names >= {"config.yaml", "environment.json", "metrics.jsonl", "result.json", "bundle"}
    assert run.history[-1]["split"] == "validation"
    assert run.metrics["validation"]["accuracy"] == run.history[-1]["accuracy"]


def test_a_stored_config_trains_the_same_model_again(tmp_path):
    run = nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path / "run")
    again = nlpkit.train(run.path / "config.yaml", out=tmp_path / "again")
    weights = [(each.bundle / "model.safetensors").read_bytes() for each in (run, again)]
    assert weights[0] == weights[1]


def test_rows_in_memory_stand_beside_a_file_in_another_encoding(tmp_path):
    text = "text,label\n包裹在哪里,track\n退款,refund\n"
    (tmp_path / "test.csv").write_text(text, encoding="gb18030")
    data = {"test": str(tmp_path / "test.csv"), "encoding": "gb18030"}
    rows = [*ROWS, *({"text": "退款", "label": "refund"} for _ in range(9))]
    run = nlpkit.train({**CONFIG, "data": data}, data={"train": rows}, out=tmp_path / "run")
    assert run.result["samples"]["test"] == 2
    vocabulary = (run.bundle / "tokenizer.json").read_text("utf-8")
    assert "退" in vocabulary
    assert "閫" not in vocabulary  # UTF-8 that was read as GB18030


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


def test_a_project_is_no_run_that_is_there_already(tmp_path):
    (tmp_path / "config.yaml").write_text("name: mine\n")
    with pytest.raises(nlpkit.InputError, match="is not empty; choose another out=DIR"):
        nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path)


def test_an_existing_run_is_refused(tmp_path):
    nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path / "run")
    with pytest.raises(nlpkit.InputError, match="there is a run already; go on with it"):
        nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": [{"text": "a", "label": None}]}, 'train row 0: column "label"'),
        ({"trian": ROWS}, "data: 'trian' is no split; give rows by split"),
        ({"train": []}, "no train rows were given"),
    ],
)
def test_bad_input_leaves_no_run_folder_behind(tmp_path, data, message):
    with pytest.raises(nlpkit.InputError, match=message):
        nlpkit.train(CONFIG, data=data, out=tmp_path / "run")
    assert not Path(tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change", [{"eval": {"monitor": "acc"}}, {"device": "cuda:63"}, {"plugins": ["./nothing.py"]}]
)
def test_what_is_wrong_before_the_first_step_leaves_no_run_folder_behind(tmp_path, change):
    with pytest.raises(nlpkit.ConfigError):
        nlpkit.train({**CONFIG, **change}, data={"train": ROWS}, out=tmp_path / "run")
    assert not Path(tmp_path / "run").exists()


def test_a_folder_that_was_there_stays_and_is_empty_again(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(nlpkit.ConfigError):
        nlpkit.train({**CONFIG, "device": "cuda:63"}, data={"train": ROWS}, out=tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_and_keeps_it(tmp_path):
    (tmp_path / "plugins").mkdir()
    with pytest.raises(nlpkit.InputError, match="is not empty; choose another out=DIR"):
        nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path)
    assert (tmp_path / "plugins").is_dir()


def test_a_second_run_cannot_take_a_folder_that_is_being_used(tmp_path):
    with _claimed("a", tmp_path / "run"):
        with (
            pytest.raises(nlpkit.InputError, match="is not empty"),
            _claimed("b", tmp_path / "run"),
        ):
            raise AssertionError
        assert (tmp_path / "run" / "environment.json").exists()


def test_a_url_is_no_place_for_what_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for write in (
        lambda: nlpkit.train(CONFIG, data={"train": ROWS}, out="s3://bucket/run"),
        lambda: nlpkit.export(tmp_path, "state_dict", out="s3://bucket/run"),
    ):
        with pytest.raises(nlpkit.InputError, match=r"out=DIR s3:/.*: is a URL; name a path on"):
            write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(nlpkit.InputError, match="file/run: .*choose another out=DIR"):
        nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path / "file" / "run")
    with pytest.raises(nlpkit.InputError, match="out=DIR: names no folder"):
        nlpkit.train(CONFIG, data={"train": ROWS}, out="")


PLUGIN = """
import torch
from torch import nn
import nlpkit
from nlpkit.nn import Head


class Bag(nn.Module):
    def __init__(self, head, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary.size, 8)
        self.head = Head(8, head, pooling="mean", dropout=0.0)
        self.spare = nn.Linear(2, 2)

    def forward(self, input_ids, attention_mask):
        return {forward}


def build(options, head, vocabulary, *, weights):
    model = Bag(head, vocabulary)
    {built}
    return model


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="bag", target="{stem}:build")
"""
OBSERVER = """

class Options(nlpkit.ComponentConfig):
    file: str


class Teller(nlpkit.contracts.Observer):
    def __init__(self, options, terminal):
        self.file = options.file

    def run_ended(self, event):
        with open(self.file, "w") as file:
            file.write(str(event.result))


@nlpkit.hookimpl
def nlpkit_observers():
    yield nlpkit.ObserverRecord(
        name="teller", target="bag_told:Teller", config="bag_told:Options"
    )
"""
WHOLE = "self.head(self.embedding(input_ids), attention_mask)"


@pytest.mark.parametrize(
    ("stem", "forward", "built", "message"),
    [
        ("bag_unused", WHOLE, "", r"get no gradient: model\.spare\.weight, model\.spare\.bias"),
        ("bag_frozen", WHOLE, "model.requires_grad_(False)", "nothing to train"),
        (
            "bag_builds",
            WHOLE,
            "raise KeyError('size')",
            r'model "bag": KeyError.*bag_builds\.py:21',
        ),
        (
            "bag_raises",
            "self.nothing(input_ids)",
            "",
            r"bag_raises\.py:16: .*no attribute 'nothing'",
        ),
        ("bag_none", "None", "", "model Bag gave NoneType, not a tensor"),
        ("bag_is_none", WHOLE, "model = None", "its target gave NoneType"),
    ],
)
def test_a_faulty_model_is_named_with_its_fault(tmp_path, stem, forward, built, message):
    text = PLUGIN.format(forward=forward, built=built or "pass", stem=stem)
    (tmp_path / f"{stem}.py").write_text(text)
    config = {**CONFIG, "model": "bag", "plugins": [str(tmp_path / f"{stem}.py")]}
    with pytest.raises(nlpkit.PluginError, match=message):
        nlpkit.train(config, data={"train": ROWS}, out=tmp_path / "run")


def test_observers_are_told_why_a_run_failed(tmp_path):
    text = PLUGIN.format(forward="self.nothing(input_ids)", built="pass", stem="bag_told")
    (tmp_path / "bag_told.py").write_text(text + OBSERVER)
    config = {**CONFIG, "model": "bag", "plugins": [str(tmp_path / "bag_told.py")]}
    config |= {"observers": [{"name": "teller", "file": str(tmp_path / "told")}]}
    with pytest.raises(nlpkit.PluginError) as caught:
        nlpkit.train(config, data={"train": ROWS}, out=tmp_path / "run")
    assert (tmp_path / "told").read_text() == str({"error": str(caught.value)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"validation": ROWS}, "data: train is missing"),
        ({"train": ROWS, "tset": ROWS}, "data: 'tset' is no split; give rows by split"),
        ([ROWS], "data: is list; give rows by split"),
    ],
)
def test_rows_in_memory_come_by_split(tmp_path, data, message):
    with pytest.raises(nlpkit.InputError, match=message):
        nlpkit.train(CONFIG, data=data, out=tmp_path / "run")


def test_two_runs_at_once_in_one_process_give_what_each_gives_alone(tmp_path):
    config = {**CONFIG, "model": {**CONFIG["model"], "dropout": 0.3}}

    def weights(name: str) -> bytes:
        run = nlpkit.train(config, data={"train": ROWS}, out=tmp_path / name)
        return (run.bundle / "model.safetensors").read_bytes()

    alone = weights("alone")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(weights, ("one", "other"))) == [alone, alone]
