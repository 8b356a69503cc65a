"""Law 4: a run that was killed anywhere and resumed ends with the same weights, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.laws.kills import SEED, SETTINGS

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("kills", "settings"),
    [(2, 1), pytest.param(20, len(SETTINGS), marks=pytest.mark.slow)],
)
def test_killed_runs_end_with_the_weights_of_those_that_were_not(kills, settings):
    done = subprocess.run(
        [sys.executable, "-m", "tests.laws.kills", str(kills), str(settings)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    total = kills * settings
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "seed": SEED,
        "resumes": total,
        "killed": total,
        "equal": total,
        "misplaced": 0,
    }
