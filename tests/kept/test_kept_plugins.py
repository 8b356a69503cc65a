"""Plugins of 0.1: what tasks and exporters are not runs as it is, and those are told what changed.

The files in plugins/ are those of docs/plugins.md and of nlpkit-echo at 0.1.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import nlpkit
from nlpkit.cli.main import main
from nlpkit.errors import PluginError
from nlpkit.plugin.host import Host

PLUGINS = Path(__file__).parent / "plugins"
RUNNING = ("my_sqlite", "my_words", "my_conv", "my_ledger", "my_launcher", "my_strategy")
CONFIG = f"""
name: strange
plugins: [{", ".join(str(PLUGINS / f"{name}.py") for name in RUNNING)}]
data: {{name: sqlite, train: messages.db, validation: 0.2}}
tokenizer: words
model: {{name: conv, width: 32}}
train: {{epochs: 10, batch_size: 8}}
strategy: plain
observers: [ledger]
launch: subprocess
"""
MESSAGES = {
    "echo": 'task "echo_length": EchoTask is no nlpkit.contracts.Task. Since nlpkit 0.2 each task '
    "is one: it has texts, fit and codec, which gives the Codec that does the rest; ",
    "traced": 'exporter "traced": Traced is no nlpkit.contracts.Exporter. Since nlpkit 0.2 each '
    "exporter is one: it has export(graphs, out), and open(path) gives functions by graph; ",
}
REMEDY = (
    '"From 0.1 to 0.2" in docs/plugins.md says how to port it, and nlpkit-sdk==0.1.* takes it as '
    "it is"
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with a config for each of the components that changed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(PLUGINS))
    base = "data: {train: missing.csv}\nmodel: transformer\n"
    echo = "plugins: [nlpkit_echo.plugin]\ntask: {name: echo_length, text: text}\n"
    traced = f"plugins: [{PLUGINS / 'my_traced.py'}]\nexport: [traced]\n"
    (tmp_path / "echo.yaml").write_text(f"name: echo\n{base}{echo}", "utf-8")
    (tmp_path / "traced.yaml").write_text(f"name: traced\n{base}{traced}", "utf-8")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "nlpkit_echo"]:
        del sys.modules[name]


@pytest.mark.slow
def test_all_others_train_together(folder, capfd):
    rows = [(f"please {'refund' if n % 2 else 'track'} number {n}", str(n % 2)) for n in range(40)]
    with closing(sqlite3.connect(folder / "messages.db")) as database:
        database.execute("create table messages (text, label)")
        database.executemany("insert into messages values (?, ?)", rows)
        database.commit()
    (folder / "strange.yaml").write_text(CONFIG, "utf-8")
    assert main(["train", "strange.yaml"]) == 0, capfd.readouterr().err
    run = nlpkit.Run(folder / "runs" / "strange")
    assert run.metrics["validation"]["accuracy"] == 1.0
    assert len((run.path / "ledger.txt").read_text("utf-8").splitlines()) == 10
    assert nlpkit.load(run.path).predict(["please refund number 7"])[0].label == "1"


def test_the_checks_of_a_model_pass_as_they_were_written():
    Host.discover().bring([str(PLUGINS / "my_conv.py")], PLUGINS)
    names: dict[str, Any] = {}
    exec((PLUGINS / "my_conv_checked.py").read_text("utf-8"), names)
    names["test_the_model_ignores_padding_and_trains_every_parameter"]()


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize("name", MESSAGES)
def test_what_changed_is_said_once_on_the_command_line(name, command, folder, capfd):
    assert main([command, f"{name}.yaml"]) == 2
    said = "".join(capfd.readouterr())
    assert said.count("is no nlpkit") == 1
    assert MESSAGES[name] + REMEDY in " ".join(said.split())
    assert ("missing.csv" in said) == ((name, command) == ("traced", "check"))


@pytest.mark.parametrize("name", MESSAGES)
def test_what_changed_is_said_once_in_python(name, folder):
    config = folder / f"{name}.yaml"
    found = [str(each) for each in nlpkit.check(config) if "is no nlpkit" in str(each)]
    assert len(found) == 1
    assert MESSAGES[name] + REMEDY in found[0]
    with pytest.raises((PluginError, nlpkit.ConfigError)) as caught:
        nlpkit.train(config)
    assert str(caught.value).count(MESSAGES[name] + REMEDY) == 1


def test_a_task_is_refused_before_a_row_in_memory_is_read(folder):
    rows = iter([{"text": "a", "label": "b"}])
    config = nlpkit.load_config(folder / "echo.yaml", ["data.train=null"])
    with pytest.raises(PluginError, match="is no nlpkit.contracts.Task"):
        nlpkit.train(config, data={"train": rows})
    assert len(list(rows)) == 1


@pytest.mark.parametrize("base", ["nlpkit.contracts:Task", "nlpkit_tasks.token.task:TokenTask"])
@pytest.mark.parametrize("command", ["check", "train"])
def test_a_task_whose_old_methods_nothing_would_call_is_refused(folder, base, command, capfd):
    module, name = base.split(":")
    Path("my_old.py").write_text(
        f"import nlpkit\nfrom {module} import {name}\n\n\n"
        f"class Old({name}):\n"
        "    columns = {'text': ('text',)}\n\n"
        "    def __init__(self, options):\n        pass\n\n"
        "    def collate(self, examples, seeds):\n        pass\n\n"
        "    def decode(self, logits, batch, schema):\n        pass\n\n\n"
        "@nlpkit.hookimpl\ndef nlpkit_tasks():\n"
        "    yield nlpkit.TaskRecord(name='old', target='my_old:Old', objective='my_old:Old')\n",
        "utf-8",
    )
    config = {"plugins": ["./my_old.py"], "task": "old", "model": "transformer"}
    Path("old.yaml").write_text(json.dumps({"name": "old", **config}))
    assert main([command, "old.yaml"]) == 2
    said = " ".join("".join(capfd.readouterr()).split())
    assert said.count("is no nlpkit") == 1
    why = "Old is no nlpkit.contracts.Task, for it has collate and decode itself"
    assert (
        MESSAGES["echo"]
        .replace("EchoTask is no nlpkit.contracts.Task", why)
        .replace("echo_length", "old")
        in said
    )
    assert REMEDY in said


def test_an_error_inside_a_new_plugin_stays_what_it_is(folder):
    Path("my_new.py").write_text(
        "import nlpkit\nfrom nlpkit.contracts import Task\n\n\n"
        "class New(Task):\n"
        "    def __init__(self, options):\n        self.columns = {'text': options.text}\n\n\n"
        "@nlpkit.hookimpl\ndef nlpkit_tasks():\n"
        "    yield nlpkit.TaskRecord(name='new', target='my_new:New', objective='my_new:New')\n",
        "utf-8",
    )
    config = {"name": "new", "plugins": ["./my_new.py"], "task": "new", "model": "transformer"}
    (problem,) = nlpkit.check(config)
    assert str(problem).startswith("task \"new\": AttributeError: 'NoneType' object has no attr")
