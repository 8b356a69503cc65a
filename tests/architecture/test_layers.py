"""What is imported when: measured in fresh processes, beside import-linter's contracts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PLUGINS = sorted(
    path.parent.name
    for part in ("plugins", "jobs")
    for path in (REPOSITORY / part).glob("*/plugin.py")
)
HEAVY = ("torch", "transformers", "ray", "numpy", "pyarrow", "pydantic")
START_UP = [
    "nlpkit",
    "nlpkit.cli.main",
    "nlpkit.plugin.host",
    *(f"{name}.plugin" for name in PLUGINS),
]
PREDICTION = [
    "nlpkit.contracts",
    "nlpkit.metrics",
    "nlpkit.bundle.format",
    "nlpkit.bundle.gate",
    "nlpkit.bundle.load",
    "nlpkit.engine.onnx",
    "nlpkit.bundle.predict",
    "nlpkit.data.plan",
    "nlpkit.data.store",
    "nlpkit.testing",
    "nlpkit_exporters.onnx",
    "nlpkit_tasks.sequence.task",
]


def imported(statement: str, *suspects: str) -> list[str]:
    """Those of `suspects` that a fresh process has imported after `statement`."""
    code = f"import sys; {statement}; print(*({{*sys.modules}} & {{*{suspects}}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_starting_up_imports_nothing_heavy():
    assert not imported(f"import {', '.join(START_UP)}", *HEAVY)


def test_listing_the_components_imports_nothing_heavy():
    listing = "from nlpkit.plugin.host import Host; Host.discover().entries('model')"
    assert not imported(listing, *HEAVY)


def test_predicting_imports_no_torch():
    assert not imported(f"import {', '.join(PREDICTION)}", "torch", "transformers")


@pytest.mark.parametrize("heavy", ["torch", "numpy"])
def test_the_measurement_notices_an_import(heavy):
    assert imported(f"import {heavy}", *HEAVY)


def test_predicting_and_serving_need_no_module_that_windows_lacks():
    lacks = ("fcntl", "grp", "pwd", "resource", "termios")
    without = f"sys.modules.update(dict.fromkeys({lacks}))"  # importing one fails from here on
    paths = "nlpkit.cli.main, nlpkit.commands.predict, nlpkit_serve.command, nlpkit_serve.app"
    engines = "nlpkit.engine.onnx, nlpkit.engine.torch, nlpkit_data.files"
    assert imported(f"{without}; import {paths}, {engines}, nlpkit.run.train, nlpkit.files") == []
