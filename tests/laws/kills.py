"""Law 4: runs that are killed at random moments and resumed, against runs that were not.

`python -m tests.laws.kills KILLS TASK SETTING` kills that many times, and says in JSON what came of
it; SETTING is a place in `SETTINGS`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

import nlpkit
import nlpkit.worker  # children are forks, and find it imported
from tests.laws.cases import TASKS

SEED = 20_240  # of the kills
STEPS, EPOCHS, BATCH = 24, 3, 8
OBSERVER = Path(__file__).with_name("ledger_observer.py")
SETTINGS = list(product((True, False), (0, 2), (None, 3)))  # bucketing, workers, micro-batch size


@dataclass
class Outcome:
    """What became of the resumes of one setting."""

    resumes: int = 0
    equal: int = 0
    killed: int = 0
    misplaced: int = 0
    steps: list[int] = field(default_factory=list)


def config(task: str, setting: tuple[bool, int, int | None], **observer: Any) -> dict[str, Any]:
    bucketing, workers, micro = setting
    return {
        "name": "killed",
        "task": task,
        "plugins": [str(OBSERVER)],
        "device": "cpu",
        "precision": "fp32",
        "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2, "dropout": 0.3},
        "tokenizer": {"name": "wordpiece", "vocab_size": 100, "max_length": 16},
        "train": {"epochs": EPOCHS, "batch_size": BATCH, "micro_batch_size": micro},
        "loader": {"workers": workers, "bucketing": bucketing},
        "data": {"validation": None},
        "checkpoint": {"every": 3},
        "observers": [{"name": "ledger", **observer}],
    }


def in_a_child(out: Path, settings: dict[str, Any], *, resume: bool = False) -> int:
    """Trains in a forked process; how it ended, as os.waitstatus_to_exitcode says it."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        torch.set_num_threads(1)
        with (out.parent / "stderr.log").open("a") as log:
            os.dup2(log.fileno(), 2)
            data = {"train": TASKS[settings["task"]].rows}
            nlpkit.train(settings, data=data, out=out, resume=resume)
        code = 0
    finally:
        os._exit(code)


def weights(run: Path) -> bytes:
    return (run / "bundle" / "model.safetensors").read_bytes()


def misplaced(run: Path) -> int:
    """How many samples were seen twice or never in an epoch, by the last that each step did.

    A step that was done again has to have the samples that it had before.
    """
    steps: dict[int, dict[str, Any]] = {}
    wrong, data = 0, json.loads((run / "result.json").read_bytes())["data"]
    samples = data.get("samples", data["rows"])["train"]
    for text in (run / "ledger.jsonl").read_text().splitlines():
        line = json.loads(text)
        before = steps.setdefault(line["step"], line)
        wrong += len(set(before["ids"]) ^ set(line["ids"]))
    seen = Counter((line["epoch"], sample) for line in steps.values() for sample in line["ids"])
    expected = set(product(range(1, EPOCHS + 1), range(samples)))
    return wrong + sum(abs(seen[key] - 1) for key in expected) + len(set(seen) - expected)


def kill_and_resume(
    task: str,
    setting: tuple[bool, int, int | None],
    kills: int,
    folder: Path,
    generator: random.Random,
) -> Outcome:
    """Kills and resumes so many runs of a setting."""
    whole = folder / "whole"
    if in_a_child(whole, config(task, setting)):
        raise RuntimeError((folder / "stderr.log").read_text())
    expected, outcome = weights(whole), Outcome()
    for number in range(kills):
        step, delay = generator.randrange(1, STEPS), generator.uniform(0, 0.02)
        run = folder / f"killed-{number}"
        ended = in_a_child(run, config(task, setting, kill_at=step, delay=delay))
        outcome.killed += ended == -signal.SIGKILL
        if in_a_child(run, config(task, setting), resume=True):
            raise RuntimeError((folder / "stderr.log").read_text())
        outcome.resumes += 1
        outcome.equal += weights(run) == expected
        outcome.misplaced += misplaced(run)
        outcome.steps.append(step)
    return outcome


def main(kills: int, task: str, setting: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NLPKIT_CACHE"] = f"{folder}/cache"
        generator = random.Random(SEED + setting)
        outcome = kill_and_resume(task, SETTINGS[setting], kills, Path(folder), generator)
    sys.stdout.write(json.dumps(vars(outcome)) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
