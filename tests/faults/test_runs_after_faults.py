"""Law 3 for whole runs: whatever happens to a checkpoint, the run ends as if nothing had."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import nlpkit
from tests.training.test_resume import STOPPER
from tests.training.test_trainer import ROWS, config, same, weights

DATA = {"train": ROWS, "validation": ROWS[:11]}
FILES = (
    "manifest.json",
    "metrics.jsonl",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
)


def cut(content: bytes, size: int) -> bytes:
    return content[:size]


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda content: b"",
    "half": lambda content: cut(content, len(content) // 2),
    "a byte short": lambda content: cut(content, -1),
    "deleted": lambda content: None,
    "first bit": lambda content: flipped(content, 0),
    "middle bit": lambda content: flipped(content, len(content) // 2),
    "last bit": lambda content: flipped(content, -1),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    plugin = tmp_path_factory.mktemp("plugin") / "stopper.py"
    plugin.write_text(STOPPER)
    return config(
        dropout=0.3,
        plugins=[str(plugin)],
        checkpoint={"every": 5},
        eval={"every": 7},
        device="cpu",
        train={"epochs": 2, "batch_size": 8, "log_every": 1, "learning_rate": 3e-3},
    )


@pytest.fixture(scope="module")
def whole(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> nlpkit.Run:
    return nlpkit.train(settings, data=DATA, out=tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def stopped(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in step 12: its newest checkpoint, another one, and the best."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    stopping = {**settings, "observers": [{"name": "stopper", "at": 11}]}
    with pytest.raises(nlpkit.Interrupted):
        nlpkit.train(stopping, data=DATA, out=out)
    assert (out / "checkpoints" / "last").read_text() == "step-00000012\n"
    return out


@pytest.fixture
def run_dir(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def hurt(path: Path, damage: Callable[[bytes], bytes | None]) -> None:
    content = damage(path.read_bytes())
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def ends_as(whole: nlpkit.Run, settings: dict[str, Any], run_dir: Path) -> None:
    run = nlpkit.train(settings, data=DATA, out=run_dir, resume=True)
    assert same(weights(run), weights(whole))
    assert run.history == whole.history
    assert run.metrics == whole.metrics


EACH_ONCE = {*zip(FILES, DAMAGE, strict=False)}  # all damage: test_fault_matrix.py


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param(*case, marks=() if case in EACH_ONCE else pytest.mark.slow)
        for case in product(FILES, DAMAGE)
    ],
)
def test_a_damaged_file_is_named_and_costs_steps_only(
    settings, whole, run_dir, capsys, name, damage
):
    path = run_dir / "checkpoints" / "step-00000012" / name
    hurt(path, DAMAGE[damage])
    ends_as(whole, settings, run_dir)
    said = capsys.readouterr().err
    assert f"{path}: is " in said
    assert "resumes after step 10 of 16" in said


@pytest.mark.parametrize("name", ["best", "last"])
@pytest.mark.parametrize("damage", ["empty", "deleted", "first bit"])
def test_the_names_for_people_are_not_relied_on(settings, whole, run_dir, name, damage):
    hurt(run_dir / "checkpoints" / name, DAMAGE[damage])
    ends_as(whole, settings, run_dir)


@pytest.mark.parametrize("damage", DAMAGE)
def test_metrics_are_those_of_the_checkpoint(settings, whole, run_dir, damage):
    hurt(run_dir / "metrics.jsonl", DAMAGE[damage])
    ends_as(whole, settings, run_dir)


def test_a_checkpoint_that_is_gone_costs_steps_only(settings, whole, run_dir):
    shutil.rmtree(run_dir / "checkpoints" / "step-00000012")
    ends_as(whole, settings, run_dir)


def test_with_every_checkpoint_damaged_it_begins_again_and_says_so(
    settings, whole, run_dir, capsys
):
    for path in (run_dir / "checkpoints").glob("step-*/state.json"):
        hurt(path, DAMAGE["middle bit"])
    ends_as(whole, settings, run_dir)
    said = capsys.readouterr().err
    assert said.count("state.json: is damaged") == 3
    assert "nothing to resume; starts from the beginning" in said


def test_what_a_killed_save_left_is_no_checkpoint(settings, whole, run_dir):
    newest = run_dir / "checkpoints" / "step-00000012"
    shutil.copytree(newest, newest.with_name(".step-00000014.99999"))
    ends_as(whole, settings, run_dir)
    assert not list((run_dir / "checkpoints").glob(".step-*"))


def test_a_newer_format_is_refused_by_name_and_nothing_is_lost(settings, run_dir):
    import json

    from nlpkit.files import seal_of

    path = run_dir / "checkpoints" / "step-00000012" / "manifest.json"
    manifest = {**json.loads(path.read_text()), "format": 2}
    path.write_text(json.dumps({**manifest, "seal": seal_of(manifest)}))
    with pytest.raises(nlpkit.CheckpointError, match="newer nlpkit"):
        nlpkit.train(settings, data=DATA, out=run_dir, resume=True)
    assert path.exists()
