"""What a real training run leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from datasets import ClassLabel, Dataset, Features, Value

import nlpkit
from tests.bundle.bundles import PLUGIN, ROWS, TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.run.train import Run


def trained(folder: Path, source: str = PLUGIN) -> Run:
    """One epoch of a model from a single file, on rows in memory."""
    plugin = folder.parent / "bag_of_a_run.py"
    plugin.write_text(source.replace("{name}", plugin.stem))
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
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def _run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(cache))
        return trained(tmp_path_factory.mktemp("runs") / "bag")


@pytest.fixture
def run(_run: Run, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run, and the cache of the user who trained it."""
    monkeypatch.setenv("NLPKIT_CACHE", str(cache))
    return _run


def test_evaluating_the_run_gives_the_number_that_training_reported(run: Run) -> None:
    assert nlpkit.evaluate(run.path, ROWS) == pytest.approx(run.metrics["test"], abs=1e-6)


def test_evaluating_a_dataset_takes_its_classes_by_their_names(run: Run) -> None:
    names = sorted({row["label"] for row in ROWS}, reverse=True)
    rows = [{**row, "label": names.index(row["label"])} for row in ROWS]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    dataset = Dataset.from_list(rows, features=features)
    assert nlpkit.evaluate(run.path, dataset) == nlpkit.evaluate(run.path, ROWS)


def test_plugins_are_executed_for_whoever_trained_with_them_and_for_others_when_trusted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = nlpkit.load(run.path).predict(TEXTS)
    assert nlpkit.load(run.bundle).predict(TEXTS) == expected
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "of-somebody-else"))
    for path in (run.path, run.bundle):
        with pytest.raises(nlpkit.BundleError, match=r"plugins/bag_of_a_run\.py"):
            nlpkit.load(path)
    assert nlpkit.load(run.path, trust_plugins=True).predict(TEXTS) == expected


def test_a_run_is_as_it_was_after_its_plugin_was_edited(tmp_path: Path) -> None:
    first = trained(tmp_path / "first")
    plugin = tmp_path / "bag_of_a_run.py"
    text = plugin.read_text().replace("self.embedding(input_ids)", "self.embedding(input_ids) * 2")
    second = trained(tmp_path / "second", text)
    for run in (first, second, first):
        assert nlpkit.evaluate(run.path, ROWS) == pytest.approx(run.metrics["test"], abs=1e-6)


def test_training_twice_gives_the_same_bundle_byte_for_byte(run: Run, tmp_path: Path) -> None:
    again = trained(tmp_path / "another")
    first = {path.relative_to(run.bundle): path for path in run.bundle.rglob("*.*")}
    second = {path.relative_to(again.bundle): path for path in again.bundle.rglob("*.*")}
    assert sorted(first) == sorted(second)
    assert {str(name) for name in first} >= {"model.safetensors", "plugins/bag_of_a_run.py"}
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name


@pytest.mark.usefixtures("_asked_here")
def test_a_run_can_be_exported(run: Run) -> None:
    assert nlpkit.export(run.path, "state_dict").path == run.bundle / "state_dict"
