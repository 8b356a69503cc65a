from __future__ import annotations

import json
import os
import re
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nlpkit
from nlpkit.checking.config import examine
from nlpkit.cli.main import main
from nlpkit.config.jsonschema import config_schema
from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.config.strict_yaml import read
from nlpkit.environment import runs_folder
from nlpkit.plugin.host import Host

TEMPLATE = (files("nlpkit") / "commands" / "starter" / "config.yaml").read_text(encoding="utf-8")
UNCOMMENTED = re.sub(r"^( *)#(?=[a-z])", r"\1", TEMPLATE, flags=re.MULTILINE)
FILES = [
    "config.yaml",
    "README.md",
    ".gitignore",
    "Dockerfile",
    ".dockerignore",
    "notebooks/starter.ipynb",
    "data/train.csv",
    "data/test.csv",
]


def _keys(section: dict[str, Any], name: object) -> set[str]:
    """The keys that the schema has for a section in which the component `name` is chosen."""
    for alternative in section.get("oneOf", [section]):
        properties = alternative.get("properties", {})
        if name in (properties.get("name", {}).get("const"), None):
            return set(properties)
    raise AssertionError(name)


def test_the_template_has_every_key_of_the_schema_and_no_other() -> None:
    schema = config_schema(Host.discover())
    written = read(UNCOMMENTED).value
    assert set(written) == set(schema["properties"])
    for name, section in schema["properties"].items():
        if "$ref" in section:
            section = schema["$defs"][section["$ref"].rpartition("/")[2]]
        if isinstance(written[name], dict):
            assert set(written[name]) == _keys(section, written[name].get("name")), name


def test_every_option_of_the_template_is_explained() -> None:
    lines = [line for line in UNCOMMENTED.splitlines() if re.match(r" *[a-z_]+: ", line)]
    assert all(re.search(r" # \w", line) for line in lines)


def test_every_commented_value_is_the_default(tmp_path: Path) -> None:
    host = Host.discover()
    configs = []
    for text in (TEMPLATE, UNCOMMENTED):
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        configs.append(resolve(load_config(tmp_path / "config.yaml"), host))
    assert configs[0] == configs[1]
    assert TEMPLATE.count("\n#") > 5


def test_a_starter_project_passes_its_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "support-mail"
    assert main(["init", str(folder)]) == 0
    assert all((folder / name).is_file() for name in FILES)
    findings = examine(folder / "config.yaml")
    assert not findings.problems
    assert findings.config is not None
    assert findings.config.name == "support-mail"
    assert findings.rows["train"] > 500
    assert findings.texts is not None
    longest = findings.texts.lengths["text"]["max"]
    assert longest <= findings.config.tokenizer.max_length < 1.5 * longest
    assert "runs/support-mail" in (folder / "README.md").read_text()
    assert "nlpkit train config.yaml" in capsys.readouterr().out.splitlines()[-1]


def test_the_notebook_trains_the_projects_config_into_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["init", str(tmp_path / "project")]) == 0
    folder, trained = tmp_path / "project" / "notebooks", []
    monkeypatch.chdir(folder)
    monkeypatch.delenv("NLPKIT_RUNS", raising=False)
    cells = json.loads((folder / "starter.ipynb").read_text("utf-8"))["cells"]
    code = "".join(cells[1]["source"])

    def train(config: str) -> Any:
        trained.append((Path(config).resolve(), runs_folder().resolve()))
        return SimpleNamespace(path="", metrics={})

    monkeypatch.setattr(nlpkit, "train", train)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    exec(re.sub("import (matplotlib|numpy).*", "", code))
    project = tmp_path / "project"
    assert trained == [(project / "config.yaml", project / "runs")]


def test_a_folder_whose_name_is_no_plain_text_keeps_the_templates_name(tmp_path: Path) -> None:
    main(["init", str(tmp_path / "007 [x]: null")])
    assert load_config(tmp_path / "007 [x]: null" / "config.yaml").name == "starter"


def test_no_file_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.csv").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "README.md, data/train.csv exist already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "data"]


def test_the_working_folder_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert (tmp_path / "config.yaml").exists()
    assert "cd " not in capsys.readouterr().out


def test_a_file_where_the_folder_should_be_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file" / "project")]) == 2
    assert "name another folder" in capsys.readouterr().err


def test_a_url_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "https://me:pw@host/x"]) == 2
    assert "DIR https:/…@host/x: is a URL; name a path" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
