"""Weights as folders have them: whole or in parts, safetensors or pickled, under any head."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from nlpkit import ConfigError
from nlpkit.contracts import HeadSpec
from nlpkit_bert import model
from nlpkit_bert.config import BertOptions
from nlpkit_bert.model import Bert, fit
from nlpkit_bert.resolve import check, pretrained_model, resolve
from nlpkit_bert.weights import load_pretrained
from tests.bert.conftest import KINDS, ROUND, saved

HEADS = ("", "MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering")


def encoder(folder):
    """The encoder with the weights of the folder."""
    options = resolve(BertOptions(pretrained=str(folder))).options
    built = Bert(options, HeadSpec(size=2))
    load_pretrained(built, pretrained_model(str(folder)), HeadSpec(size=2), "mean")
    return built.bert


def changed(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def pickled(folder, value=None):
    """Puts pytorch_model.bin in the place of model.safetensors."""
    weights = folder / "model.safetensors"
    torch.save(load_file(weights) if value is None else value, folder / "pytorch_model.bin")
    weights.unlink()


def alike(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", ROUND)
def test_a_head_is_left_behind_and_none_is_missed(tmp_path, kind, head):
    folder = saved(tmp_path / "tiny", kind, head=head)
    theirs = transformers.AutoModel.from_pretrained(folder)
    ours = encoder(folder).state_dict()
    assert len(ours) > 15
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.items())


def test_the_head_that_electra_is_pretrained_with_is_left_behind(tmp_path):
    folder = tmp_path / "tiny"
    config = transformers.ElectraConfig(**KINDS["electra"])
    transformers.ElectraForPreTraining(config).save_pretrained(folder)
    assert any("discriminator" in name for name in load_file(folder / "model.safetensors"))
    assert encoder(folder)


def test_a_head_of_any_name_is_left_behind_where_the_encoder_has_a_prefix(folder):
    changed(folder, lambda weights: weights.update({"crf.transitions": torch.zeros(3, 3)}))
    assert encoder(folder)


def test_checkpoints_with_the_first_names_are_read(folder):
    expected = encoder(folder)

    def age(weights):
        for name in list(weights):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            old = old.replace("LayerNorm.bias", "LayerNorm.beta")
            weights[old] = weights.pop(name)
        weights["bert.embeddings.position_ids"] = torch.arange(40)[None]

    changed(folder, age)
    assert alike(encoder(folder), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: weights.pop("bert.encoder.layer.1.output.dense.bias"),
            r"missing: encoder.layer.1.output.dense.bias\)",
        ),
        (
            lambda weights: weights.update({"bert.encoder.layer.9.x": torch.zeros(1)}),
            r"unexpected: encoder.layer.9.x\)",
        ),
        (
            lambda weights: weights.update({"encoder.layer.9.x": torch.zeros(1)}),
            r"unexpected: encoder.layer.9.x\)",
        ),
        (
            lambda weights: weights.update({"bert.adapter.down": torch.zeros(1)}),
            r"unexpected: adapter.down\)",
        ),
        (
            lambda weights: weights.update({"bert.embeddings.LayerNorm.bias": torch.zeros(31)}),
            r"of another shape: embeddings.LayerNorm.bias\)",
        ),
        (lambda weights: weights.clear(), "missing: .* and 48 more"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, message):
    changed(folder, change)
    with pytest.raises(ConfigError, match=message):
        encoder(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_hidden_layers": 2}, r"unexpected: encoder\.layer\.2\."),
        ({"num_hidden_layers": 4}, r"missing: encoder\.layer\.3\."),
        ({"hidden_size": 16}, r"of another shape: embeddings\."),
        ({"max_position_embeddings": 50}, r"of another shape: embeddings\.position_embeddings"),
        ({"hidden_act": "glue"}, r'hidden_act: transformers has no activation "glue"; did.*"gelu"'),
        ({"model_type": "gpt2", "architectures": ["Bert"]}, 'no encoder of texts of type "gpt2"'),
        (
            {"model_type": "camembert", "num_attention_heads": 5},
            r'no "camembert" of this config\.json',
        ),
    ],
)
def test_a_check_says_what_building_the_model_would(folder, settings, message):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    options = BertOptions(pretrained=str(folder))
    for look in (check, lambda _: encoder(folder)):
        with pytest.raises(ConfigError, match=message) as caught:
            look(options)
        assert caught.value.problems[0].remedy


@pytest.mark.parametrize("head", ["", "MaskedLM"])
@pytest.mark.parametrize("kind", [*ROUND, "albert"])
def test_a_check_builds_no_encoder_that_is_as_usual(tmp_path, kind, head, monkeypatch):
    monkeypatch.setitem(KINDS, "albert", {**KINDS["bert"], "embedding_size": 16})
    options = BertOptions(pretrained=str(saved(tmp_path / "tiny", kind, head=head)))
    built = []
    monkeypatch.setattr(model, "fit", lambda *given: built.append(fit(*given)))
    assert check(options) == []
    assert len(built) == (kind == "albert")


def test_what_is_no_head_of_a_bare_encoder_is_named(tmp_path):
    folder = saved(tmp_path / "tiny", "distilbert", head="")
    changed(folder, lambda weights: weights.update({"adapter.down": torch.zeros(1)}))
    with pytest.raises(ConfigError, match=r"unexpected: adapter.down\)"):
        encoder(folder)


def test_pickled_tensors_are_read(folder):
    expected = encoder(folder)
    pickled(folder)
    assert alike(encoder(folder), expected)


def test_safetensors_are_preferred(folder):
    expected = encoder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert alike(encoder(folder), expected)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_not_executed(folder, tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    pickled(folder, {"bert.embeddings.LayerNorm.bias": Evil()})
    if legacy:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil()}, protocol=2))
    with pytest.raises(ConfigError, match="holds more than tensors, or is damaged, and is not"):
        encoder(folder)
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"PK\x03\x04" + b"\0" * 50])
def test_damaged_weights_are_an_error_that_names_the_file(folder, name, content):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name} (is|holds more than tensors, or is) damaged"):
        encoder(folder)


def test_a_pickle_of_something_else_is_an_error(folder):
    pickled(folder, {"model": {"a": torch.zeros(1)}})
    with pytest.raises(ConfigError, match="is not a mapping of tensors"):
        encoder(folder)


def test_a_folder_without_weights_is_an_error_that_names_what_was_looked_for(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"has none of model\.safetensors, .*pytorch_model\.bin"):
        encoder(folder)


class TestParts:
    """Weights in several files, under an index."""

    @pytest.fixture(params=[".safetensors", ".bin"])
    def index(self, folder, request):
        weights = load_file(folder / "model.safetensors")
        names = sorted(weights)
        stem = "model" if request.param == ".safetensors" else "pytorch_model"
        where = {}
        for number, part in enumerate((names[::2], names[1::2]), start=1):
            file = f"{stem}-0000{number}-of-00002{request.param}"
            tensors = {name: weights[name] for name in part}
            save = save_file if request.param == ".safetensors" else torch.save
            save(tensors, folder / file)
            where |= dict.fromkeys(part, file)
        shutil.copytree(folder, folder.with_name("whole"))
        (folder / "model.safetensors").unlink()
        path = folder / f"{stem}{request.param}.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": where}))
        return path

    def test_they_are_put_together(self, folder, index):
        assert alike(encoder(folder), encoder(folder.with_name("whole")))

    def test_a_part_that_is_not_there_is_named(self, folder, index):
        part = sorted(set(json.loads(index.read_text())["weight_map"].values()))[1]
        (folder / part).unlink()
        with pytest.raises(ConfigError, match=f"has no {part}"):
            encoder(folder)

    @pytest.mark.parametrize(
        "text", ["{", "[]", "{}", '{"weight_map": {"a": "../b"}}', '{"weight_map": {"a": 1}}']
    )
    def test_an_index_that_is_none_is_an_error(self, folder, index, text):
        index.write_text(text)
        with pytest.raises(ConfigError, match="is no index of weights"):
            encoder(folder)
