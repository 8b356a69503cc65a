"""A stranger's distribution, installed with pip into an environment of its own, is used by name."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # an environment is made, and pip installs into it

ECHO = Path(__file__).parent / "nlpkit_echo"
CONFIG = """
name: echo
task: {name: echo_length, text: sentence}
data: {train: train.csv, validation: 0.25, test: train.csv}
tokenizer: echo_words
model: {name: echo_sum, width: 4}
train: {epochs: 15, batch_size: 8, learning_rate: 0.05}
loader: {workers: 0}
observers: [echo_ledger]
"""
CONTRACTS = """
from nlpkit.contracts import Row
from nlpkit.testing import check_model, check_task
from nlpkit_echo.config import EchoModelConfig, EchoTaskConfig
from nlpkit_echo.model import build
from nlpkit_echo.objective import EchoObjective
from nlpkit_echo.task import EchoTask

rows = [Row({"text": " ".join("abcde"[:n])}, f"rows:{n}") for n in range(1, 6)]
task = EchoTask(EchoTaskConfig())
codec, batch = check_task(task, rows, objective=lambda schema: EchoObjective(None, schema))
check_model(build, EchoModelConfig(), batch, head=codec.head)
"""
NLPKIT = "import sys; from nlpkit.cli.main import main; sys.exit(main())"


def run(python: Path, *arguments: object, folder: Path) -> str:
    done = subprocess.run(
        [python, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NLPKIT_STRICT_PLUGINS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that sees this one's packages and has nlpkit-echo of its own."""
    folder = tmp_path_factory.mktemp("stranger")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    here = next(path for path in site.getsitepackages() if path.startswith(sys.prefix))
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    there = Path(run(python, "-c", ask, folder=folder).strip())
    (there / "seen.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    shutil.copytree(ECHO, folder / "source")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    run(python, "-m", "pip", "install", *options, folder / "source", folder=folder)
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    words = "one two three four five six seven eight".split()
    texts = [" ".join(words[start:end]) for end in range(1, 9) for start in range(end)]
    (tmp_path / "train.csv").write_text("\n".join(["sentence", *texts, ""]), "utf-8")
    (tmp_path / "echo.yaml").write_text(CONFIG, "utf-8")
    return tmp_path


def test_its_components_are_listed_with_their_distribution(python, tmp_path):
    listed = json.loads(run(python, "-c", NLPKIT, "plugins", "--json", folder=tmp_path))
    assert "nlpkit-echo" in json.dumps(listed)
    assert "echo_sum" in json.dumps(listed)


def test_its_components_keep_their_contracts(python, tmp_path):
    run(python, "-c", CONTRACTS, folder=tmp_path)


def test_a_config_trains_and_predicts_with_its_components_by_name(python, project):
    run(python, "-c", NLPKIT, "train", "echo.yaml", "--out", "run", folder=project)
    ledger = (project / "run" / "ledger.txt").read_text("utf-8").splitlines()
    assert ledger[0].startswith("started ")
    assert ledger[-1] == f"ended after {ledger[0].split()[1]}"
    assert "evaluated validation" in ledger
    result = json.loads((project / "run" / "result.json").read_text("utf-8"))
    assert result["metrics"]["test"]["pearson"] > 0.9
    arguments = ["predict", "run", "one two three", "one two three four five six seven"]
    lines = run(python, "-c", NLPKIT, *arguments, folder=project).splitlines()
    few, many = (json.loads(line)["words"] for line in lines)
    assert few < many


def test_this_environment_does_not_have_it():
    with pytest.raises(ModuleNotFoundError):
        __import__("nlpkit_echo")
