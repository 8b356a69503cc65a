"""What older versions left behind is loaded, predicts, is evaluated and exported as it was.

The folders beside this were written by `make.py` with the version that they are called after.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nlpkit
from nlpkit.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
CASES = [
    (version.name, name)
    for version in sorted(HERE.glob("*.*.*"))
    for name in json.loads((version / "expected.json").read_text(encoding="utf-8"))
]


def expected(version: str, name: str) -> Any:
    return json.loads((HERE / version / "expected.json").read_text(encoding="utf-8"))[name]


@pytest.fixture
def kept(tmp_path: Path) -> Any:
    """A copy of a run, for some of what is done with one writes into it."""

    def copied(version: str, name: str) -> Path:
        return shutil.copytree(HERE / version / name, tmp_path / name)

    return copied


def predictions(place: Path, asked: Sequence[Any]) -> list[dict[str, Any]]:
    texts = [tuple(each) if isinstance(each, list) else each for each in asked]
    model = nlpkit.load(place, device="cpu", precision="fp32", trust_plugins=True)
    return [vars(each) for each in model.predict(texts)]


def near(value: Any) -> Any:
    """What a value is compared with: what processors make of numbers differs a little."""
    if isinstance(value, dict):
        return {key: near(each) for key, each in value.items()}
    if isinstance(value, list):
        return [near(each) for each in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


@pytest.mark.parametrize(("version", "name"), CASES)
def test_a_kept_run_predicts_and_is_evaluated_as_it_was(version, name, kept):
    wanted, run = expected(version, name), kept(version, name)
    for place, said in wanted["predictions"].items():
        folder = run if place == "run" else run / "bundle" / place
        assert predictions(folder, wanted["asked"]) == near(said), place
    assert nlpkit.Run(run).history == wanted["history"]
    assert nlpkit.Run(run).metrics == wanted["metrics"]
    found = nlpkit.evaluate(run, run / "inputs" / "test.jsonl", device="cpu", trust_plugins=True)
    assert found == pytest.approx(wanted["metrics"]["test"], abs=1e-5)


@pytest.mark.usefixtures("_asked_here")
@pytest.mark.parametrize(("version", "name"), CASES)
def test_a_kept_run_is_exported_anew(version, name, kept):
    wanted, run = expected(version, name), kept(version, name)
    artifact = nlpkit.export(run, "torchscript", trust_plugins=True)
    assert predictions(artifact.path, wanted["asked"]) == near(wanted["predictions"]["run"])


def test_an_unfinished_run_of_another_minor_version_is_not_resumed(kept):
    run = kept("0.1.0", "unfinished")
    config = nlpkit.load_config(run / "config.yaml")
    with pytest.raises(CheckpointError) as caught:
        nlpkit.train(config, out=run, resume=True)
    assert str(caught.value) == (
        f"{run}: was begun with nlpkit 0.1.0, and this is {nlpkit.__version__}, which may train "
        'otherwise; go on with "nlpkit-sdk==0.1.*", or start a new run with another out=DIR'
    )
