"""Which engine `nlpkit.load` takes, and what it says where there is none."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import nlpkit
from nlpkit.files import seal_of
from tests.bundle.bundles import PLUGIN, TEXTS, make_run
from tests.network.watching import Watched

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(_exported: Path, tmp_path: Path) -> Path:
    """A run folder with an ONNX export, of this test's own."""
    return shutil.copytree(_exported, tmp_path / "cards")


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "torch" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def labels(model: nlpkit.bundle.predict.Model) -> list[str]:
    return [each.label for each in model.predict(TEXTS)]


def kind(model: nlpkit.bundle.predict.Model) -> str:
    return type(model.engine).__name__


def test_torch_runs_a_bundle_and_onnx_runtime_its_onnx_model(run: Path) -> None:
    assert kind(nlpkit.load(run)) == kind(nlpkit.load(run, backend="torch")) == "TorchEngine"
    for path in (run, run / "bundle", run / "bundle" / "onnx"):
        model = nlpkit.load(path, backend="onnx")
        assert model.bundle.path == run / "bundle" / "onnx"
        assert labels(model) == labels(nlpkit.load(run))


@pytest.mark.usefixtures("without_torch")
def test_without_torch_the_onnx_model_is_taken(run: Path) -> None:
    assert kind(nlpkit.load(run)) != "TorchEngine"
    shutil.rmtree(run / "bundle" / "onnx")
    with pytest.raises(nlpkit.InputError, match="needs torch.*nlpkit export RUN onnx"):
        nlpkit.load(run)


def test_the_onnx_backend_imports_no_torch_and_no_plugin_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "bag_plugin.py").write_text(PLUGIN.replace("{name}", "bag_plugin"))
    plugin = str(tmp_path / "bag_plugin.py")
    run = make_run(tmp_path / "bags", model="bag_plugin", plugins=[plugin])
    nlpkit.export(run, "onnx", trust_plugins=True)
    code = (
        "import sys, nlpkit; model = nlpkit.load(sys.argv[1], backend='onnx'); "
        "model.predict(['money']); "
        "print(*({*sys.modules} & {'torch', 'transformers', 'bag_plugin'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_onnx_runtime_reports_to_nobody(run: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path / "watched")
    watched.run("predict", run, "money", "--backend", "onnx")
    assert (list(watched.home.iterdir()), watched.strangers()) == ([], set())


def test_an_export_of_other_weights_is_refused(run: Path) -> None:
    path = run / "bundle" / "onnx" / "nlpkit.json"
    other = make_run(run.parent / "other", model={"name": "transformer", "layers": 1, "hidden": 16})
    shutil.copytree(path.parent, other / "bundle" / "onnx")
    with pytest.raises(nlpkit.BundleError, match="of other weights; export again"):
        nlpkit.load(other, backend="onnx")


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        (["input_ids", "attention_mask", "foo"], ["logits"], "the task does not give foo"),
        (["attention_mask"], ["logits"], "has input_ids, attention_mask, logits; .* names atten"),
        (["input_ids", "attention_mask"], ["logits", "foo"], "names .*, logits, foo"),
    ],
)
def test_an_export_of_other_graphs_is_found_when_it_is_opened(
    run: Path, inputs: list[str], outputs: list[str], said: str
) -> None:
    path = run / "bundle" / "onnx" / "nlpkit.json"
    description = json.loads(path.read_bytes())
    description["model"]["inputs"] = inputs
    description["graphs"]["model"] = {
        "inputs": {name: ["rows", "tokens"] for name in inputs},
        "outputs": {name: ["rows", 3] for name in outputs},
    }
    path.write_text(json.dumps({**description, "seal": seal_of(description)}))
    with pytest.raises(nlpkit.BundleError, match=said):
        nlpkit.load(path.parent)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"backend": "tensorflow"}, "none of torch, onnx"),
        ({"backend": "torch", "device": "mps"}, "mps is not there"),
        ({"backend": "onnx", "device": "cuda"}, "runs on the CPU here, not on cuda"),
    ],
)
def test_what_cannot_be_is_said(run: Path, how: dict[str, Any], said: str) -> None:
    with pytest.raises(nlpkit.InputError, match=said):
        nlpkit.load(run, **how)


def test_torch_does_not_run_an_export_and_a_run_without_onnx_says_how_to_get_it(run: Path) -> None:
    with pytest.raises(nlpkit.BundleError, match="is an export, onnx"):
        nlpkit.load(run / "bundle" / "onnx", backend="torch")
    with pytest.raises(nlpkit.BundleError, match="export from the run folder"):
        nlpkit.export(run / "bundle" / "onnx", "onnx")
    shutil.rmtree(run / "bundle" / "onnx")
    with pytest.raises(nlpkit.BundleError, match="has no ONNX model.*nlpkit export RUN onnx"):
        nlpkit.load(run, backend="onnx")


def test_an_export_without_onnx_runtime_names_the_extra(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(nlpkit.InputError, match=r"nlpkit-sdk\[runtime\]"):
        nlpkit.load(run, backend="onnx")


def test_metadata_of_the_model_names_its_labels_and_task(run: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(run / "bundle" / "onnx" / "model.onnx"))
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["labels"]) == ["arrival", "balance", "lost"]
    assert found["task"] == "sequence"


@pytest.mark.usefixtures("_asked_here")
def test_a_format_that_is_code_is_executed_only_where_it_was_written_or_trusted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = nlpkit.export(run, "torch_export", out=tmp_path / "export")
    expected = labels(nlpkit.load(run))
    assert labels(nlpkit.load(artifact.path)) == expected
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "of_another_user"))
    with pytest.raises(nlpkit.BundleError, match="is code that was not written here"):
        nlpkit.load(artifact.path)
    assert labels(nlpkit.load(artifact.path, trust_plugins=True)) == expected
    assert labels(nlpkit.load(run, backend="onnx")) == expected


@pytest.mark.usefixtures("_asked_here")
def test_a_run_with_a_strangers_model_exports_its_weights_once_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sack_plugin.py").write_text(PLUGIN.replace("{name}", "sack_plugin"))
    plugin = str(tmp_path / "sack_plugin.py")
    run = make_run(tmp_path / "bags", model="sack_plugin", plugins=[plugin])
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "of_another_user"))
    with pytest.raises(nlpkit.BundleError, match="not trained with here"):
        nlpkit.export(run, "state_dict")
    artifact = nlpkit.export(run, "state_dict", trust_plugins=True)
    assert artifact.parity["difference"] == 0.0
    with pytest.raises(nlpkit.BundleError, match="not trained with here"):
        nlpkit.load(artifact.path)
