from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

import nlpkit
from nlpkit.engine.onnx import OnnxSession
from nlpkit_exporters.quantize import quantize
from tests.bundle.words import ENTITIES, ROWS, train, unscored
from tests.exporters.exports import GRID, Exported, arrays, run_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("quantize")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        exported = Exported(run_of(folder / "run", "bert mean"), "onnx", folder / "out")
        quantize(exported.artifact.path / "model.onnx")
        return exported


def test_the_rounded_model_takes_every_shape_and_says_almost_the_same(exported: Exported) -> None:
    rounded = OnnxSession(exported.artifact.path / "model.onnx")
    for batch, length in GRID:
        inputs = arrays(batch, length, exported.inputs)
        (exact,), (found,) = exported.call(inputs), rounded.run(inputs)  # opened before
        assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max() + 0.02


def test_matrices_and_embeddings_are_bytes_that_no_cpu_overflows_on(exported: Exported) -> None:
    model = onnx.load(exported.artifact.path / "model.onnx")
    tensors = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer]
    matrices = [each for each in tensors if each.ndim == 2 and min(each.shape) > 3]
    rounded = [each for each in matrices if each.dtype == np.int8]
    assert rounded
    assert all(np.abs(each.astype(int)).max() <= 64 for each in rounded)
    products = [node.op_type for node in model.graph.node]
    assert products.count("MatMulInteger") == 2 * 6 + 1  # and the head


def test_labels_stay_in_the_file_and_nothing_stays_beside_it(exported: Exported) -> None:
    model = onnx.load(exported.artifact.path / "model.onnx")
    assert {"labels", "task", "nlpkit"} <= {each.key for each in model.metadata_props}
    assert [each.name for each in exported.artifact.path.glob("*.onnx*")] == ["model.onnx"]


def test_weights_beside_the_file_move_into_it(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["rows", "weights"], ["products"])],
        "product",
        [onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, ["batch", 64])],
        [onnx.helper.make_tensor_value_info("products", onnx.TensorProto.FLOAT, ["batch", 64])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data")
    quantize(path)
    assert list(tmp_path.iterdir()) == [path]
    (found,) = OnnxSession(path).run({"rows": np.eye(64, dtype=np.float32)})
    assert np.abs(found - weights).max() < 0.05


def test_it_is_silent_and_leaves_logging_as_it_was(
    exported: Exported, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = [*root.handlers], [*root.filters]
    quantize(exported.artifact.path / "model.onnx")
    assert ([*root.handlers], [*root.filters]) == before
    assert capfd.readouterr() == ("", "")


def test_a_rounded_tagger_finds_the_same_entities(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    artifact = nlpkit.export(run, "onnx", quantize="int8")
    assert artifact.parity["agreement"] == 1.0
    words = [row["tokens"] for row in ROWS]
    exact, rounded = (nlpkit.load(run, backend=name).predict(words) for name in ("torch", "onnx"))
    scores = [[each["score"] for row in said for each in row.entities] for said in (exact, rounded)]
    assert 0 < np.abs(np.subtract(*scores)).max() < 0.05
    assert [list(map(unscored, row.entities)) for row in rounded] == ENTITIES
