"""Law 6 for each format: the numbers of the model, whatever the batch and the length."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import nlpkit
from tests.bundle.bundles import TEXTS
from tests.exporters.exports import ENCODERS, FORMATS, GRID, MODELS, TASKS, Exported, run_of

QUICK = {
    ("torchscript", "bert cls", "class"),
    ("torchscript", "transformer learned post", "class"),
    ("torchscript", "modernbert", "class"),
    ("state_dict", "bert cls", "pairs"),
    ("state_dict", "a stranger's", "multilabel"),
    ("torch_export", "bert mean", "pairs"),
    ("torch_export", "a stranger's", "multilabel"),
}
CASES = [
    *itertools.product(FORMATS, MODELS, TASKS),
    *itertools.product(FORMATS, ENCODERS, ["class"]),
]


@pytest.mark.parametrize(
    ("format", "model", "task"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_an_export_gives_the_models_numbers_for_any_batch_and_length(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], format: str, model: str, task: str
) -> None:
    run = run_of(tmp_path / "run", model, task)
    capfd.readouterr()
    exported = Exported(run, format, tmp_path / "out")
    assert max(exported.difference(*shape) for shape in GRID) <= 1e-5
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_an_export_passes_the_gate_and_predicts_alone(tmp_path: Path, format: str) -> None:
    run = run_of(tmp_path / "run", "bert mean", "pairs")
    artifact = nlpkit.export(run, format, out=tmp_path / "out")
    assert artifact.parity["difference"] <= 1e-5
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    expected = [each.label for each in nlpkit.load(run).predict(pairs)]
    assert [each.label for each in nlpkit.load(artifact.path).predict(pairs)] == expected
