"""What a token store depends on: code and versions beside rows and options."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
import tokenizers

from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.data.prepare import prepare
from nlpkit.errors import PluginError
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Shop


def test_a_tasks_own_file_is_part_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "shouting.py").write_text(TASK)
    config = {
        "name": "shout",
        "plugins": ["./shouting.py"],
        "task": "shouting",
        "data": "sample",
        "model": {"name": "transformer"},
    }
    (tmp_path / "shout.yaml").write_text(json.dumps(config))
    host = Host.discover()
    resolved = resolve(load_config(tmp_path / "shout.yaml"), host)
    first = prepare(resolved, host, Terminal())
    assert prepare(resolved, host, Terminal()).path == first.path
    with (tmp_path / "shouting.py").open("a") as file:
        file.write("# another version\n")
    with pytest.raises(PluginError, match="shouting was edited after it was imported; restart"):
        prepare(resolved, host, Terminal())
    host = Host.discover()  # brings the file anew
    resolved = resolve(load_config(tmp_path / "shout.yaml"), host)
    assert prepare(resolved, host, Terminal()).path != first.path


def test_every_file_of_a_tasks_package_is_part_of_the_recipe(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "whispering"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(
        TASK.replace('"shouting:build"', '"whispering.plugin:build"')
    )
    (package / "helper.py").write_text("LOUDNESS = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = {
        "name": "whisper",
        "plugins": ["whispering.plugin"],
        "task": "shouting",
        "data": "sample",
        "model": {"name": "transformer"},
    }
    (tmp_path / "whisper.yaml").write_text(json.dumps(config))
    host, notes = Host.discover(), shop.terminal
    resolved = resolve(load_config(tmp_path / "whisper.yaml"), host)
    first = prepare(resolved, host, notes)
    assert prepare(resolved, host, notes).path == first.path
    (package / "helper.py").write_text("LOUDNESS = 2\n")
    with pytest.raises(PluginError, match="whispering was edited after it was imported; restart"):
        prepare(resolved, host, notes)
    for name in ("whispering", "whispering.plugin"):  # as in another process
        monkeypatch.delitem(sys.modules, name)
    assert prepare(resolved, host, notes).path != first.path
    assert notes.notes[-1] == "tokens: rebuilt, because task changed"


def test_a_module_beside_a_plugins_module_is_part_of_the_recipe(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flat_helper.py").write_text("LOUDNESS = 1\n")
    text = TASK.replace('"shouting:build"', '"flat_plugin:build"')
    (tmp_path / "flat_plugin.py").write_text("import flat_helper\n" + text)
    monkeypatch.syspath_prepend(tmp_path)
    config = {"name": "flat", "plugins": ["flat_plugin"], "task": "shouting", "data": "sample"}
    host = Host.discover()
    resolved = resolve(load_config({**config, "model": "transformer"}), host)
    first = prepare(resolved, host, shop.terminal)
    (tmp_path / "flat_helper.py").write_text("LOUDNESS = 2\n")
    for name in ("flat_plugin", "flat_helper"):  # as in another process
        monkeypatch.delitem(sys.modules, name)
    __import__("flat_plugin")
    assert prepare(resolved, host, shop.terminal).path != first.path


def test_the_versions_of_what_tokenizes_are_part_of_the_recipe(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.prepare()
    recipe = json.loads((first.path / "recipe.json").read_bytes())["recipe"]
    assert recipe["tokenizers' version"] == tokenizers.__version__
    monkeypatch.setattr("nlpkit.data.recipe.__version__", "99.0")
    assert shop.prepare().path != first.path
    assert shop.terminal.notes[-1] == "tokens: rebuilt, because nlpkit's version changed"


TASK = """
import nlpkit
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask


@nlpkit.hookimpl
def nlpkit_tasks():
    yield nlpkit.TaskRecord(name="shouting", target="shouting:build")


def build(options):
    return SequenceTask(SequenceConfig())
"""
