"""docs/serving.md and examples/http say what is true."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import numpy as np
import pytest

import nlpkit
from nlpkit_serve import app, batching, question, server
from tests.docs.pages import REPOSITORY, blocks, table, titled

PAGE = REPOSITORY / "docs" / "serving.md"
LIMITS = {
    "texts of a request": question.TEXTS,
    "characters of a text, of a pair, or of words together": question.CHARACTERS,
    "words of a text that is a list of them": question.WORDS,
    "bytes of a body": app.BODY,
    "texts that wait for the model": batching.WAITING,
    "tokens of a text that is written": question.TOKENS,
    "beams of a text that is written": question.BEAMS,
    "words to stop at": question.STOPS,
    "seconds in which a text is written": batching.SECONDS,
    "open connections": server.CONNECTIONS,
    "seconds for a request to arrive, headers and body": server.ARRIVAL_SECONDS,
    "seconds without a request on an open connection": server.IDLE_SECONDS,
    "seconds to answer what is in flight after a signal": server.GRACE_SECONDS,
}


def test_the_limits_are_those_of_the_code():
    lines = [line.cells for line in table(PAGE)]
    start = lines.index(("what", "at most")) + 2
    assert dict(lines[start:]) == {what: f"{limit:,}" for what, limit in LIMITS.items()}


def test_the_metrics_are_those_of_the_code(model):
    service = app.Service(model, batch_size=1, note=pytest.fail)
    named = set(re.findall(r"nlpkit_\w+(?=`)", PAGE.read_text("utf-8")))
    (measured,) = [route for route in service.application().routes if route.path == "/metrics"]
    answer = asyncio.run(measured.endpoint(None))
    counted = set(re.findall(r"^# TYPE (\w+)", answer.body.decode(), re.MULTILINE))
    assert named == {name for name in counted if not name.endswith("_created")}


@pytest.fixture(scope="module")
def export(run, tmp_path_factory) -> Path:
    """`run` as ONNX, where the page has it."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "runs/intents/bundle").mkdir(parents=True)
    return nlpkit.export(run, "onnx", out=folder / "runs/intents/bundle/onnx").path


@pytest.mark.slow
def test_triton_has_the_arrays_of_the_model(export):
    from onnxruntime import InferenceSession

    session = InferenceSession(str(export / "model.onnx"))
    config = titled(PAGE)["config.pbtxt"]
    told = {
        name: (kind, dims.count("-1"))
        for name, kind, dims in re.findall(r'name: "(\w+)", data_type: (\w+), dims: (.+) }', config)
    }
    kinds = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
    arrays = [*session.get_inputs(), *session.get_outputs()]
    # Triton leaves the first dimension out; not every model takes token_type_ids.
    assert {each.name: (kinds[each.type], len(each.shape) - 1) for each in arrays}.items() <= (
        told.items()
    )
    assert "token_type_ids" in told


@pytest.mark.slow
def test_the_client_of_triton_sends_what_the_model_takes(export, model, monkeypatch):
    monkeypatch.chdir(export.parents[3])
    names: dict[str, object] = {}
    (block,) = blocks(PAGE, "python")
    exec(compile(block.text, str(PAGE), "exec"), names)
    request = json.loads(json.dumps(names["request"]))
    batch = model.batch(["where is my parcel?", "I want my money back"])
    assert [each["name"] for each in request["inputs"]] == list(model.bundle.inputs)
    for each in request["inputs"]:
        expected = batch.inputs[each["name"]]
        assert (each["shape"], each["datatype"]) == (list(expected.shape), "INT64")
        np.testing.assert_array_equal(each["data"], expected)


def test_the_image_serves_an_export_without_torch():
    lines = (REPOSITORY / "examples/http/Dockerfile").read_text("utf-8")
    assert "FROM python:3.12-slim" in lines
    assert "nlpkit_sdk-*.whl)[runtime,serve]" in lines
    assert json.loads(lines.rpartition("CMD ")[2]) == (
        ["nlpkit", "serve", "/export", "--host", "0.0.0.0", "--port", "8000"]
    )
