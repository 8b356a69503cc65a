"""What a real training run leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import nlpkit
from tests.bundle.bundles import PLUGIN, ROWS, TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.runs import Run


def trained(folder: Path) -> Run:
    """One epoch of a model from a single file, on rows in memory."""
    plugin = folder.parent / "bag_of_a_run.py"
    plugin.write_text(PLUGIN.replace("{name}", plugin.stem))
    config = {
        "name": folder.name,
        "plugins": [str(plugin)],
        "task": "sequence",
        "data": {"validation": 0.25},
        "tokenizer": {"name": "wordpiece", "max_length": 16, "vocab_size": 120},
        "model": plugin.stem,
        "train": {"epochs": 1, "batch_size": 8},
        "loader": {"workers": 0},
        "observers": [],
        "device": "cpu",
    }
    return nlpkit.train(config, data={"train": ROWS * 3, "test": ROWS}, out=folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return trained(tmp_path_factory.mktemp("runs") / "bag")


def test_evaluating_the_run_gives_the_number_that_training_reported(run: Run) -> None:
    assert nlpkit.evaluate(run.path, ROWS) == pytest.approx(run.metrics["test"], abs=1e-6)


def test_the_run_predicts_with_its_own_plugin_and_its_bundle_when_trusted(run: Run) -> None:
    expected = nlpkit.load(run.path).predict(TEXTS)
    assert nlpkit.load(run.bundle, trust_plugins=True).predict(TEXTS) == expected
    with pytest.raises(nlpkit.BundleError, match=r"plugins/bag_of_a_run\.py"):
        nlpkit.load(run.bundle)


def test_training_twice_gives_the_same_bundle_byte_for_byte(run: Run, tmp_path: Path) -> None:
    again = trained(tmp_path / "another")
    first = {path.relative_to(run.bundle): path for path in run.bundle.rglob("*.*")}
    second = {path.relative_to(again.bundle): path for path in again.bundle.rglob("*.*")}
    assert sorted(first) == sorted(second)
    assert {str(name) for name in first} >= {"model.safetensors", "plugins/bag_of_a_run.py"}
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name


def test_a_run_can_be_exported(run: Run) -> None:
    assert nlpkit.export(run.path, "state_dict").path == run.bundle / "state_dict"
