"""Law 4: a run that was killed anywhere and resumed ends with the same weights, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nlpkit
from tests.laws.cases import TASKS
from tests.laws.kills import SETTINGS
from tests.training.test_resume import STOPPER, resumed, stopped
from tests.training.test_trainer import config, same, weights

REPOSITORY = Path(__file__).parents[2]
KILLS = 20


@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_each_task_that_was_stopped_and_resumed_is_the_run_that_was_not(tmp_path, task):
    (tmp_path / "stopper.py").write_text(STOPPER)
    rows = {"train": TASKS[task].rows}
    changes = {"plugins": [str(tmp_path / "stopper.py")], "device": "cpu", "dropout": 0.3}
    changes |= {"task": task, "train": {"micro_batch_size": 3}}
    whole = nlpkit.train(config(**changes), data=rows, out=tmp_path / "whole")
    stopped(tmp_path / "run", 5, rows, **changes)
    assert same(weights(resumed(tmp_path / "run", rows, **changes)), weights(whole))


@pytest.mark.slow
@pytest.mark.parametrize("setting", range(len(SETTINGS)))
@pytest.mark.parametrize("task", TASKS)
def test_killed_runs_end_with_the_weights_of_those_that_were_not(task, setting):
    done = subprocess.run(
        [sys.executable, "-m", "tests.laws.kills", str(KILLS), task, str(setting)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert [outcome[each] for each in ("resumes", "killed", "equal")] == [KILLS] * 3
    assert outcome["misplaced"] == 0
