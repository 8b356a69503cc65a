"""In a notebook a bar is one display that is updated in place."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BARS = """
import time
from nlpkit.cli.render import Terminal

terminal = Terminal()
with terminal.bar("training on cpu", 30, "steps") as bar:
    for step in range(30):
        time.sleep(0.03)
        bar.advance(1, f"loss {1 / (step + 1):.4f}")
        if step % 10 == 9:
            terminal.note(f"epoch {step // 10 + 1}")
"""
TRAINING = """
import nlpkit
run = nlpkit.train({
    "name": "notebook",
    "task": "sequence",
    "data": "sample",
    "tokenizer": {"name": "wordpiece", "vocab_size": 500, "max_length": 32},
    "model": {"name": "transformer", "layers": 1, "hidden": 32, "heads": 2},
    "train": {"epochs": 3},
})
run.metrics["test"]["accuracy"]
"""


def executed(source, folder):
    """The outputs of a notebook with one cell, executed by nbconvert."""
    cell = {"cell_type": "code", "id": "c", "metadata": {}, "outputs": [], "source": source}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {
        "cells": [{**cell, "execution_count": None}],
        "metadata": kernel,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (folder / "given.ipynb").write_text(json.dumps(notebook))
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "given.ipynb"]
    subprocess.run(
        [*command, "--output", "done.ipynb"], cwd=folder, check=True, capture_output=True
    )
    return json.loads((folder / "done.ipynb").read_text())["cells"][0]["outputs"]


def lines_of(outputs):
    texts = [output.get("text", output.get("data", {}).get("text/plain")) for output in outputs]
    return "".join("".join(text) + "\n" for text in texts).splitlines()


def test_a_bar_is_one_display_and_notes_are_lines(tmp_path):
    outputs = executed(BARS, tmp_path)

    (display,) = (output for output in outputs if output["output_type"] == "display_data")
    text = "".join(display["data"]["text/plain"])
    assert text.startswith("training on cpu ━━━━━━━━━━━━━━━━━━━━ 30/30 steps")
    assert "loss 0.0333" in text
    notes = [output["text"] for output in outputs if output.get("name") == "stdout"]
    assert "".join(map("".join, notes)) == "epoch 1\nepoch 2\nepoch 3\n"
    assert not [output for output in outputs if output.get("name") == "stderr"]


@pytest.mark.slow
def test_three_epochs_leave_less_than_sixty_lines(tmp_path):
    outputs = executed(TRAINING, tmp_path)

    lines = lines_of(outputs)
    assert len(lines) < 60
    (training,) = (line for line in lines if line.startswith("training"))
    assert "87/87 steps" in training
    assert float(lines[-1]) > 0.1
