from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

import nlpkit
import nlpkit_exporters.onnx
from nlpkit.contracts import Approximation
from nlpkit_exporters.config import OnnxConfig
from tests.bundle.bundles import CLASSES
from tests.exporters.exports import GRID, Exported, run_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        return Exported(run_of(folder / "run", "a stranger's"), "onnx", folder / "out")


def test_the_file_says_what_it_takes_and_gives(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.artifact.path / "model.onnx")
    assert [each.name for each in session.get_inputs()] == list(exported.inputs)
    assert all(each.shape == ["batch", "length"] for each in session.get_inputs())
    assert all(each.type == "tensor(int64)" for each in session.get_inputs())
    assert [(each.name, each.shape) for each in session.get_outputs()] == [("logits", ["batch", 3])]
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"]) == sorted(set(CLASSES))
    assert about["task"] == "sequence"
    assert about["nlpkit"] == nlpkit.__version__


def test_it_is_one_file_of_an_opset_that_old_runtimes_read_and_holds_no_paths(
    exported: Exported,
) -> None:
    (path,) = exported.artifact.files
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
    assert model.ir_version <= 10
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b'.py"' not in path.read_bytes()


def test_weights_that_do_not_fit_into_one_file_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nlpkit_exporters.onnx, "ONE_FILE", 1000)
    exported = Exported(run_of(tmp_path / "run", "a stranger's"), "onnx", tmp_path / "out")
    names = [path.name for path in exported.artifact.files]
    assert names == ["model.onnx", "model.onnx.data"]
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = nlpkit_exporters.onnx.build(OnnxConfig()).open(tmp_path / "moved")
    exported.call = moved["model"]
    assert max(exported.difference(*shape) for shape in GRID) <= 1e-5


def test_opening_it_imports_neither_torch_nor_the_models_plugin(exported: Exported) -> None:
    code = (
        "import sys, numpy as np\n"
        "import nlpkit_exporters.onnx as exporter\n"
        "from pathlib import Path\n"
        "ids = np.ones((2, 3), np.int64)\n"
        "from nlpkit_exporters.config import OnnxConfig\n"
        "call = exporter.build(OnnxConfig()).open(Path(sys.argv[1]))\n"
        "(logits,) = call['model']({'input_ids': ids, 'attention_mask': ids})\n"
        "print(logits.tolist())\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'my_model')))"
    )
    command = [sys.executable, "-c", code, str(exported.artifact.path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    inputs = {name: np.ones((2, 3), np.int64) for name in exported.inputs}
    assert np.allclose(json.loads(done.stdout), exported.call(inputs)[0], rtol=0, atol=1e-6)


def test_rounded_weights_are_for_the_gate_to_judge_as_the_options_say(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "a stranger's")
    options = {"quantize": "int8", "min_agreement": 0.9, "max_drop": 0.05}
    exported = Exported(run, "onnx", tmp_path / "out", **options)
    asked = Approximation(min_agreement=0.9, max_drop=0.05)
    assert exported.artifact.approximation == asked
    assert [path.name for path in exported.artifact.files] == ["model.onnx"]
    session = onnxruntime.InferenceSession(exported.artifact.files[0])
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == sorted(set(CLASSES))
    assert 0 < exported.difference(3, 7) < 0.5


@pytest.mark.parametrize("wrong", [{"quantize": "int4"}, {"min_agreement": 98}, {"max_drop": -1}])
def test_options_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    run = run_of(tmp_path / "run", "transformer learned pre")
    with pytest.raises(nlpkit.ConfigError, match=next(iter(wrong))):
        nlpkit.export(run, "onnx", **wrong)
    assert not (run / "bundle" / "onnx").exists()


def test_weights_that_are_not_rounded_are_compared_number_by_number(exported: Exported) -> None:
    assert exported.artifact.approximation is None
