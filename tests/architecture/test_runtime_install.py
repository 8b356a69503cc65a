"""Prediction alone: `nlpkit-sdk[runtime]` in an environment of its own, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import nlpkit
from tests.bundle.bundles import TEXTS, make_run

REPOSITORY = Path(__file__).parents[2]
MEGABYTES = 280


def done(*command: str | Path) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_the_runtime_install_is_small_and_predicts_what_torch_predicts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "cards")
    nlpkit.export(run, "onnx")
    pip = [sys.executable, "-m", "pip"]
    done(*pip, "wheel", "--quiet", "--no-deps", "-w", tmp_path, REPOSITORY)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = REPOSITORY / "constraints.txt"
    done(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[runtime]")
    installed = done(python, "-m", "pip", "list").casefold()
    assert not {"torch", "transformers", "safetensors"} & set(installed.split())
    assert int(done("du", "-sm", tmp_path / "venv").split()[0]) <= MEGABYTES
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    command = [python.with_name("nlpkit"), "predict", run, "--input", tmp_path / "texts.txt"]
    found = [json.loads(line)["label"] for line in done(*command).splitlines()]
    assert found == [each.label for each in nlpkit.load(run, backend="torch").predict(TEXTS)]
