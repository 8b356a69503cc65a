"""A config brings plugins without a distribution: single files, and importable modules."""

from __future__ import annotations

import pickle
import re
import sys
from textwrap import dedent

import pytest

from nlpkit.errors import PluginError
from nlpkit.plugin.host import Host, load
from nlpkit.plugin.imports import describe, import_file

SOURCE = """
    import nlpkit

    @nlpkit.hookimpl
    def nlpkit_models():
        yield nlpkit.ModelRecord(name="mine", target="my_own_model:Build")

    class Build:
        pass
"""

pytestmark = pytest.mark.usefixtures("fresh_modules")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_own_model.py").write_text(dedent(SOURCE))
    return tmp_path


def brought(plugin, folder):
    host = Host()
    host.bring([plugin], folder)
    return host


def test_a_file_beside_the_config_is_a_module_that_records_and_pickles_find(folder):
    host = brought("./my_own_model.py", folder)

    entry = host.entry("model", "mine")
    build = load(entry.record, entry.record.target)

    assert str(entry.origin) == f"my_own_model ({folder / 'my_own_model.py'})"
    assert host.files == {"my_own_model": folder / "my_own_model.py"}
    assert isinstance(pickle.loads(pickle.dumps(build())), build)
    assert not (folder / "__pycache__").exists()


def test_the_same_content_is_one_module_wherever_it_lies(folder):
    brought("./my_own_model.py", folder)
    module = sys.modules["my_own_model"]
    copy = folder / "run" / "plugins"
    copy.mkdir(parents=True)
    (copy / "my_own_model.py").write_bytes((folder / "my_own_model.py").read_bytes())

    host = brought("plugins/my_own_model.py", folder / "run")

    assert sys.modules["my_own_model"] is module
    assert host.files == {"my_own_model": copy / "my_own_model.py"}
    assert host.entry("model", "mine")


def test_a_file_that_was_edited_is_executed_anew(folder):
    brought("./my_own_model.py", folder)
    (folder / "my_own_model.py").write_text(dedent(SOURCE).replace('"mine"', '"edited"'))

    assert brought("./my_own_model.py", folder).entry("model", "edited")


def test_another_file_of_the_same_name_takes_its_place_but_not_in_one_config(folder):
    host = brought("./my_own_model.py", folder)
    other = folder / "other"
    other.mkdir()
    (other / "my_own_model.py").write_text(dedent(SOURCE).replace('"mine"', '"edited"'))

    with pytest.raises(PluginError, match=r'module name "my_own_model" is taken by .*rename'):
        host.bring(["my_own_model.py"], other)
    assert brought("my_own_model.py", other).entry("model", "edited")
    assert brought("my_own_model.py", folder).entry("model", "mine")


@pytest.mark.parametrize("name", ["json", "sys", "nbconvert"])  # loaded, built in, importable
def test_a_file_named_as_a_module_is_refused(folder, name):
    (folder / f"{name}.py").write_text(dedent(SOURCE))

    with pytest.raises(PluginError, match=f'the module name "{name}" is taken'):
        brought(f"{name}.py", folder)


def test_a_file_that_can_be_imported_by_its_own_name_is_no_clash(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)

    assert brought("./my_own_model.py", folder).entry("model", "mine")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:", r"SyntaxError: invalid syntax \(.*/my_own_model\.py:1\)"),
        ("\n\n1 / 0", r"ZeroDivisionError: division by zero \(.*/my_own_model\.py:3\)"),
        ("import json\njson.loads('{')", r"JSONDecodeError: .* \(.*/my_own_model\.py:2\)"),
        ("import nowhere_at_all", r"No module named 'nowhere_at_all' \(.*/my_own_model\.py:1\)"),
        ("x = 1", "implements no hook"),
    ],
)
def test_a_fault_in_a_file_is_told_with_its_line(folder, source, message):
    (folder / "my_own_model.py").write_text(source)

    with pytest.raises(PluginError, match=message):
        brought("./my_own_model.py", folder)


def test_a_file_that_failed_can_be_mended(folder):
    text = (folder / "my_own_model.py").read_text()
    (folder / "my_own_model.py").write_text(text + "1 / 0\n")
    with pytest.raises(PluginError):
        brought("./my_own_model.py", folder)
    (folder / "my_own_model.py").write_text(text)

    assert brought("./my_own_model.py", folder).entry("model", "mine")


def test_a_file_that_is_not_there_is_told(folder):
    with pytest.raises(PluginError, match=r"nowhere\.py: No such file"):
        brought("./nowhere.py", folder)


def test_a_file_needs_the_name_of_a_module(folder):
    (folder / "my-model.py").write_text(dedent(SOURCE))

    with pytest.raises(PluginError, match='"my-model" is no module name; rename the file'):
        brought("my-model.py", folder)


def test_a_dotted_module_is_imported(folder, monkeypatch):
    package = folder / "my_own_package"
    package.mkdir()
    (package / "plugin.py").write_text(dedent(SOURCE))
    monkeypatch.syspath_prepend(folder)

    entry = brought("my_own_package.plugin", folder).entry("model", "mine")

    assert entry.origin.plugin == "my_own_package.plugin"


def test_a_module_that_cannot_be_imported_is_told(folder):
    with pytest.raises(PluginError, match=r"plugin no\.such: .*No module named 'no'"):
        brought("no.such", folder)


def test_bringing_a_plugin_twice_changes_nothing(folder):
    host = brought("./my_own_model.py", folder)

    host.bring(["./my_own_model.py"], folder)

    assert len(host.entries("model")) == 1


def test_strict_mode_refuses_a_brought_plugin_that_claims_a_known_name(folder):
    path = folder / "my_own_model.py"
    path.write_text(path.read_text().replace('"mine"', '"bert"'))
    host = Host.discover(strict=True)

    with pytest.raises(PluginError, match='model "bert" is claimed by'):
        host.bring(["./my_own_model.py"], folder)


def test_a_fault_is_told_at_the_innermost_line_that_is_no_librarys(folder):
    source = """
        import json, numpy

        def build():
            return numpy.random.default_rng("no seed") if json else None
        """
    (folder / "faulty.py").write_text(dedent(source))
    module = import_file(folder / "faulty.py")
    with pytest.raises(TypeError) as caught:
        module.build()

    assert re.search(r"^TypeError: .* \(.*/faulty\.py:5\)$", describe(caught.value))
