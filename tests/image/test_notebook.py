"""The starter notebook runs from top to bottom."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.docs.pages import REPOSITORY

NOTEBOOK = REPOSITORY / "nlpkit" / "commands" / "starter" / "starter.ipynb"


@pytest.mark.slow
def test_the_starter_notebook_trains_plots_and_predicts(tmp_path):
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", str(NOTEBOOK)]
    done = tmp_path / "done.ipynb"
    subprocess.run([*command, "--output", str(done)], cwd=tmp_path, check=True)
    cells = [cell for cell in json.loads(done.read_text())["cells"] if "outputs" in cell]
    plots = ["image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]]
    assert sum(plots) == 2
    said = "".join(cells[-1]["outputs"][-1]["data"]["text/plain"])
    assert said.startswith("[Prediction(label=")


def test_the_starter_notebook_is_kept_without_outputs():
    notebook = json.loads(NOTEBOOK.read_text())
    assert not [cell for cell in notebook["cells"] if cell.get("outputs")]
