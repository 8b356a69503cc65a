"""The README: every block of it runs; the tree in CONTRIBUTING is the repository's."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nlpkit.cli.main import main
from nlpkit.commands import demo
from tests.docs.pages import PAGES, README, REPOSITORY, blocks, commands, titled

CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
TEXT = README.read_text("utf-8")
SHELL = blocks(README, "sh")
NLPKIT = "import sys; from nlpkit.cli.main import main; sys.exit(main())"


def errors() -> list[str]:
    return next(block.text for block in blocks(README) if "error:" in block.text).splitlines()


def tree() -> list[str]:
    """The paths of the annotated tree, folders with a slash at the end."""
    paths, folder = [], ""
    (block,) = (block for block in blocks(CONTRIBUTING) if "nlpkit/  " in block.text)
    for line in block.text.split("\n"):
        for name in re.findall(r"[\w.-]+/?(?=\s|$)", re.split(r"\s{2,}", line.strip())[0]):
            if line.startswith("  "):
                name = folder + name
            elif name.endswith("/"):
                folder = name
            paths.append(name)
    return paths


def tracked() -> list[Path]:
    """The files of the repository, without what lies around in somebody's working copy."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if not done.stdout:
        pytest.skip("this is no working copy of git")
    return [Path(name) for name in done.stdout.rstrip("\0").split("\0")]


def test_it_can_be_read_in_one_sitting():
    assert len(TEXT.splitlines()) < 220


def test_the_two_commands_of_a_fresh_clone_are_targets_of_the_makefile():
    targets = re.findall(r"^    make (\w+)$", TEXT, re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_install_lines_name_extras_and_files_that_exist():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    lines = SHELL[0].text.splitlines()
    assert [line.split()[0] for line in lines] == ["pip", "uv"]
    for line in lines:
        *_, constraints, flag, target = shlex.split(line)
        assert (REPOSITORY / constraints).exists()
        assert flag == "-e"
        assert target.strip(".[]") in extras["optional-dependencies"]


def test_a_wheel_installs_as_it_says(tmp_path):
    (line,) = re.findall(r"`pip install (\"\$\(ls dist/.+?)`", TEXT)
    assert re.search(r"^wheel:", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "nlpkit_sdk-9.9-py3-none-any.whl").touch()
    done = subprocess.run(
        ["sh", "-c", f"printf %s {line}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "dist/nlpkit_sdk-9.9-py3-none-any.whl[all]"


def test_no_page_installs_it_from_an_index():
    """It is on none; `pip install 'nlpkit-sdk[EXTRA]'` adds an extra to what is installed."""
    texts = [block.text for page in PAGES for block in blocks(page, "sh")]
    texts += [path.read_text("utf-8") for path in (REPOSITORY / "examples").rglob("Dockerfile")]
    assert [text for text in texts if re.search(r"pip install.*['\" ]nlpkit-sdk", text)] == []


def test_the_demo_predicts_the_texts_that_are_shown():
    (output,) = (block.text for block in blocks(README) if "training on cpu" in block.text)
    shown = re.findall(r"^(.+?)  +(\w+)  +0\.\d{4}$", output.partition("text  ")[2], re.MULTILINE)
    assert shown
    assert {text for text, _ in shown} <= set(demo.TEXTS)


@pytest.mark.usefixtures("_asked_here")
def test_the_quick_start_runs(in_readme, capsys):
    lines = commands(SHELL[1].text)
    assert [line.split()[1] for line in lines] == [
        "check",
        "train",
        "predict",
        "evaluate",
        "export",
    ]
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert "accuracy" in capsys.readouterr().out


def test_the_same_from_python_runs(in_readme, capsys):
    (code,) = (block.text for block in blocks(README, "python") if not block.title)
    exec(compile(code, "README.md", "exec"), {})
    assert "[Prediction(label=" in capsys.readouterr().out


def test_its_errors_are_those_that_one_sees(in_readme, tmp_path, monkeypatch, capsys):
    (tmp_path / "data").mkdir()
    for name in ("train.csv", "test.csv"):
        rows = (in_readme / "data" / name).read_text("utf-8").splitlines()
        rows = [row for row in rows if '"' not in row]
        if name == "test.csv":
            rows[2] = "Where is my money?,refund_statsu,,"
        (tmp_path / "data" / name).write_text("\n".join(rows), "utf-8")
    config = titled(README)["intents.yaml"]
    monkeypatch.chdir(tmp_path)
    seen = ""
    for text in (config.replace("epochs", "epoch"), config):
        (tmp_path / "intents.yaml").write_text(text, "utf-8")
        assert main(["check", "intents.yaml"]) == 2
        seen += capsys.readouterr().err
    assert seen.splitlines() == errors()


def test_its_single_file_plugin_trains_and_predicts_in_another_process(tmp_path, monkeypatch):
    for name in ("my_model.py", "bag.yaml"):
        (tmp_path / name).write_text(titled(README)[name], "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NLPKIT_STRICT_PLUGINS", "1")
    train, predict = (shlex.split(line)[1:] for line in commands(SHELL[2].text))
    assert main(train) == 0
    done = subprocess.run(
        [sys.executable, "-c", NLPKIT, *predict], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] == "track_order"
    result = json.loads((tmp_path / "runs" / "bag" / "result.json").read_text("utf-8"))
    assert result["metrics"]["test"]["accuracy"] > 0.8


def test_its_single_file_plugin_has_thirty_lines():
    assert len([line for line in titled(README)["my_model.py"].splitlines() if line]) <= 30


def test_every_path_of_the_tree_exists():
    assert [path for path in tree() if not (REPOSITORY / path).exists()] == []


def test_the_tree_names_every_entry_of_the_repository_and_every_package():
    files = tracked()
    entries = {f"{path.parts[0]}{'/' * (len(path.parts) > 1)}" for path in files}
    packages = {
        f"{path.parent}/"
        for path in files
        if path.name == "__init__.py" and path.parts[0] != "tests" and len(path.parts) == 3
    }
    assert packages
    assert (entries | packages) - set(tree()) == set()


@pytest.mark.parametrize(
    "page", [str(page.relative_to(REPOSITORY)) for page in PAGES if page != README]
)
def test_it_leads_to_every_page(page):
    assert f"]({page})" in TEXT
