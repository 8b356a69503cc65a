"""Runs of `bert` as `model.pretrained`: masks are learned first, then labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import nlpkit
from nlpkit import ConfigError
from nlpkit.bundle.format import describe_export, read_bundle, seal
from nlpkit.cli.main import main
from nlpkit.config.schema import Component
from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit.plugin.host import Host
from nlpkit_bert.config import BertOptions
from nlpkit_bert.model import build
from nlpkit_bert.resolve import check, resolve
from tests.bert.conftest import KINDS, saved
from tests.bundle.bundles import TEXTS, make_run
from tests.exporters.exports import GRID, Exported

pytestmark = pytest.mark.slow

ROUND = ["bert", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "bert")]
"""All types; in the fast tests the usual one."""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config file that fills masks, in the working folder."""
    monkeypatch.chdir(tmp_path)
    rows = [{"text": text, "label": text.split()[0]} for text in TEXTS * 2]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "name": "fill",
        "task": "mlm",
        "data": {"train": "rows.jsonl", "validation": "rows.jsonl"},
        "model": {"name": "bert", "pretrained": "tiny"},
        "tokenizer": {"name": "wordpiece", "vocab_size": 55, "max_length": 16},
        "train": {"max_steps": 2, "batch_size": 4},
        "loader": {"workers": 0},
        "precision": "fp32",
    }
    path = tmp_path / "fill.yaml"
    path.write_text(json.dumps(settings))
    return path


def told(capsys, *command):
    """What a command that succeeds says, in one line."""
    code, said = main([*command]), capsys.readouterr().err
    assert code == 0, said
    return " ".join(said.split())


@pytest.mark.parametrize("kind", ROUND)
def test_what_filled_masks_goes_on_with_them_and_learns_labels(config, tmp_path, kind, capsys):
    saved(tmp_path / "tiny", kind)
    said = told(capsys, "train", "fill.yaml")
    assert f"{tmp_path / 'tiny'}: its output head is used" in said
    shutil.rmtree(tmp_path / "tiny")
    settings = json.loads(config.read_text())
    settings |= {"model": {"name": "bert", "pretrained": "runs/fill"}, "train": {"max_steps": 1}}
    settings["tokenizer"] = {"max_length": 16}
    config.write_text(json.dumps(settings))
    still = ("fill.yaml", "train.learning_rate=1e-30")
    assert "runs/fill: its output head is used" in told(capsys, "train", *still, "name=more")
    labels = (*still, "name=labels", "task=sequence")
    assert "errors" not in told(capsys, "check", *labels)
    said = told(capsys, "train", *labels)
    assert "runs/fill: its head, of the task mlm, is left behind" in said

    bundles = [Path("runs") / run / "bundle" for run in ("fill", "more", "labels")]
    fill, more, labels = (load_file(bundle / "model.safetensors") for bundle in bundles)
    assert fill.keys() == more.keys() > (encoder := {name for name in fill if name[:5] == "bert."})
    assert len(encoder) > 15
    assert all(torch.equal(fill[name], more[name]) for name in fill)
    assert all(torch.equal(fill[name], labels[name]) for name in encoder)
    tokenizers = [json.loads((bundle / "tokenizer.json").read_bytes()) for bundle in bundles]
    assert tokenizers[0]["model"] == tokenizers[1]["model"] == tokenizers[2]["model"]
    (found,) = nlpkit.load("runs/labels").predict(["my card"])
    assert found.label in {text.split()[0] for text in TEXTS}


@pytest.mark.parametrize("kind", ROUND)
def test_an_onnx_model_fills_masks_as_the_model_does(tmp_path, kind):
    one = {"num_hidden_layers": 1} if kind == "bert" else {}  # which is seconds less
    saved(tmp_path / "tiny", kind, vocab_size=130, **one)
    model = {"name": "bert", "pretrained": str(tmp_path / "tiny")}
    run = make_run(tmp_path / "cards", model=model, name="mlm")
    exported = Exported(run, "onnx", tmp_path / "out")
    assert exported.inputs == ("input_ids", "attention_mask", "masked")
    assert max(exported.difference(*shape) for shape in GRID) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_an_onnx_model_passes_the_gate(config, tmp_path, kind, capsys):
    saved(tmp_path / "tiny", kind)
    told(capsys, "train", "fill.yaml")
    parity = nlpkit.export("runs/fill", "onnx").parity
    assert parity["agreement"] == 1.0
    assert {each["slots"] for each in parity["shapes"] if "slots" in each} == {1, 3}


def learned(folder):
    options = resolve(BertOptions(pretrained=str(folder))).options
    head, vocabulary = HeadSpec(size=2), Vocabulary(size=60, max_length=16)
    return build(options, head, vocabulary, weights=True)


@pytest.fixture
def run(tmp_path):
    """The run of a tiny BERT with three labels."""
    saved(tmp_path / "tiny", "bert", vocab_size=130)
    pretrained = {"name": "bert", "pretrained": str(tmp_path / "tiny")}
    return make_run(tmp_path / "cards", model=pretrained)


def test_a_bundle_needs_no_run_around_it(run, tmp_path):
    alone = (run / "bundle").rename(tmp_path / "alone")
    stored = load_file(alone / "model.safetensors")
    assert check(BertOptions(pretrained=str(alone))) == []
    found = learned(alone).state_dict()
    assert all(torch.equal(found[name], stored[name]) for name in stored if name[:5] == "bert.")


def damage(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: damage(run / "bundle/model.safetensors"), r"model\.safetensors: is damaged"),
        (lambda run: damage(run / "bundle/nlpkit.json"), r"nlpkit\.json: "),
        (lambda run: damage(run / "bundle/tokenizer.json"), r"tokenizer\.json: "),
        (
            lambda run: (run / "bundle/model.safetensors").unlink(),
            r"model\.safetensors: is missing",
        ),
    ],
)
def test_a_damaged_bundle_is_one_sentence(run, change, message):
    change(run)
    with pytest.raises(ConfigError, match=message) as caught:
        learned(run)
    (problem,) = caught.value.problems
    assert problem.key == "model.pretrained"
    assert "\n" not in str(problem)


def test_a_run_that_did_not_finish_is_named(tmp_path):
    saved(tmp_path / "tiny", "bert", vocab_size=130)
    model = {"name": "bert", "pretrained": str(tmp_path / "tiny")}
    run = make_run(tmp_path / "cards", model=model, sealed=False)
    with pytest.raises(ConfigError, match="the run did not finish, so its bundle is not whole"):
        learned(run)


def test_bundles_of_other_models_are_named(tmp_path):
    run = make_run(tmp_path / "cards")
    with pytest.raises(ConfigError, match='a model "transformer", and no bundle of a bert'):
        learned(run)


def test_exports_are_no_bundles_to_learn_from(run, tmp_path):
    bundle = read_bundle(run)
    (tmp_path / "onnx").mkdir()
    describe_export(bundle, tmp_path / "onnx", Component(name="onnx"), Host.discover())
    seal(tmp_path / "onnx")
    with pytest.raises(ConfigError, match='"bert"\'s onnx export, and no bundle of a bert'):
        learned(tmp_path / "onnx")
