"""The plugin author's guide: every hook and contract is in it, and its plugins work."""

from __future__ import annotations

import inspect
import sqlite3
import tomllib
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import nlpkit
from nlpkit import contracts
from nlpkit.cli.main import CommandGroup, main
from nlpkit.cli.render import Terminal
from nlpkit.plugin.host import IMPORTS, Host, load
from nlpkit.plugin.spec import GROUP, HOOKS
from tests.docs.pages import PLUGINS, headings, table, titled

FILES = titled(PLUGINS)
PLUGIN_FILES = [name for name in FILES if name.startswith("my_")]
TEXT = PLUGINS.read_text("utf-8")
BASES = (contracts.Task, contracts.Codec, contracts.Exporter, contracts.Observer)
PROTOCOLS = [
    value
    for value in vars(contracts).values()
    if inspect.isclass(value)
    and value.__module__ == contracts.__name__
    and (getattr(value, "_is_protocol", False) or value in BASES)
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with the files of the guide, and messages.db; the working folder."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    rows = [(f"please {'refund' if n % 2 else 'track'} number {n}", str(n % 2)) for n in range(40)]
    with closing(sqlite3.connect(tmp_path / "messages.db")) as database:
        database.execute("create table messages (text, label)")
        database.executemany("insert into messages values (?, ?)", rows)
        database.commit()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_section_and_a_row_that_names_its_record(hook):
    record = f"{HOOKS[hook].capitalize()}Record"
    assert hook in headings(PLUGINS)
    assert [line.cells[1] for line in table(PLUGINS) if line.cells[0] == hook] == [record]
    assert hasattr(nlpkit, record)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_everything_that_a_contract_asks_for_is_explained(protocol):
    names = {*vars(protocol), *protocol.__annotations__}
    assert [
        n for n in names if n[0] != "_" and f"`{n}" not in TEXT and f"def {n}(" not in TEXT
    ] == []


@pytest.mark.parametrize("name", PLUGIN_FILES)
def test_every_file_is_a_plugin_whose_import_strings_lead_somewhere(name, folder):
    host = Host.discover(disabled=(), strict=True)
    host.bring([f"./{name}"], folder)
    (entry,) = (
        e for kind in HOOKS.values() for e in host.entries(kind) if e.origin.plugin == name[:-3]
    )
    for target in filter(None, (getattr(entry.record, field, "") for field in IMPORTS)):
        load(entry.record, target)


@pytest.mark.slow
def test_they_train_together_in_another_process(folder, capfd):
    assert main(["train", "strange.yaml"]) == 0, capfd.readouterr().err
    run = nlpkit.Run(folder / "runs" / "strange")
    assert run.metrics["validation"]["accuracy"] == 1.0
    lines = (run.path / "ledger.txt").read_text("utf-8").splitlines()
    assert len(lines) == 10
    assert f"ledger: {run.path}" in capfd.readouterr().err
    assert run.result["exports"]["traced"]["agreement"] == 1.0
    assert nlpkit.load(run.path).predict(["please refund number 7"])[0].label == "1"


def test_its_task_trains_with_its_objective(folder):
    words = "nobody few some many all".split()
    lines = [f"{words[n % 5]} of you {who},{n % 5}" for n in range(60) for who in ("may", "will")]
    (folder / "replies.csv").write_text("\n".join(["message,replies", *lines]), "utf-8")
    assert main(["train", "replies.yaml"]) == 0
    run = nlpkit.Run(folder / "runs" / "replies")
    assert run.metrics["validation"]["pearson"] > 0.9
    few, many = nlpkit.load(run.path).predict(["nobody of you may", "all of you will"])
    assert few.replies < 1 < 3 < many.replies


def test_the_command_shows_the_best_run(folder, guide_project, capsys):
    host = Host.discover()
    host.bring(["./my_command.py"], folder)
    arguments = ["best", str(guide_project / "runs")]
    CommandGroup(host).main(arguments, standalone_mode=False, obj=Terminal())
    assert "accuracy" in capsys.readouterr().out


def test_its_test_passes(folder):
    Host.discover().bring(["./my_conv.py", "./my_replies.py"], folder)
    names: dict[str, Any] = {}
    exec(compile(FILES["test_mine.py"], "test_mine.py", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_the_project_file_declares_a_plugin_that_this_version_loads():
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    assert list(project["entry-points"]) == [GROUP]
    (requirement,) = map(Requirement, project["dependencies"])
    assert requirement.name == "nlpkit-sdk"
    assert requirement.specifier.contains(nlpkit.__version__)


def test_the_messages_that_it_explains_are_those_of_the_code():
    sources = [files("nlpkit") / "plugin" / "host.py", files("nlpkit") / "nn.py"]
    code = "".join(source.read_text("utf-8") for source in sources)
    for words in (
        "implements no hook; is @nlpkit.hookimpl missing?",
        "is claimed by",
        "which the task does not give",
    ):
        assert words in code
        assert words in TEXT
