from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from nlpkit import ConfigError
from nlpkit_bert.config import BertOptions
from nlpkit_bert.resolve import DESCRIBING, resolve
from tests.bert.conftest import KINDS, saved

DESCRIPTION = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}


def written(folder, text):
    folder.mkdir()
    (folder / "config.json").write_text(text, encoding="utf-8")
    return BertOptions(pretrained=str(folder))


def test_the_description_and_the_defaults_come_from_the_folder(minilm):
    resolution = resolve(BertOptions(pretrained=minilm))
    assert resolution.learning_rate == pytest.approx(1e-4)  # 5e-5 × 768 / 384
    assert resolution.max_length == 256  # its sentence_bert_config.json, of 512 positions
    assert resolution.options.description["hidden_size"] == 384
    assert resolution.options.description["layer_norm_eps"] == 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_paths_of_the_folder_are_left_behind(tmp_path, kind):
    folder = saved(tmp_path / kind, kind, head="SequenceClassification", num_labels=7)
    description = resolve(BertOptions(pretrained=str(folder))).options.description
    assert not {"id2label", "_name_or_path", "architectures", "dtype"} & description.keys()
    assert "transformers" not in json.dumps(description)
    assert description.get("model_type", "bert") == kind


def test_a_bert_is_described_as_it_was_before_there_were_other_types(folder):
    description = resolve(BertOptions(pretrained=str(folder))).options.description
    assert "model_type" not in description
    assert tuple(description) == (*DESCRIBING, "classifier_dropout", "head")  # of its classifier


@pytest.mark.parametrize(
    ("kind", "longest"), [("bert", 40), ("roberta", 38), ("xlm-roberta", 38), ("modernbert", 40)]
)
def test_positions_that_padding_takes_are_no_longer_an_inputs(tmp_path, kind, longest):
    folder = saved(tmp_path / kind, kind)
    assert resolve(BertOptions(pretrained=str(folder))).max_length == longest


def test_resolved_options_touch_no_file_and_survive_json(folder):
    first = resolve(BertOptions(pretrained=str(folder), freeze=["embeddings", "0-1"]))
    plain = json.loads(json.dumps(first.options.model_dump(mode="json")))
    (folder / "config.json").unlink()
    assert resolve(BertOptions(**plain)) == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": ', "is not JSON"),
        ("[1, 2]", "does not say a model_type"),
        ('{"model_type": "roberta"}', '"roberta", has no usable vocab_size'),
        ('{"model_type": "distilbert", "vocab_size": 60}', '"distilbert", has no usable dim'),
        ('{"model_type": "vit", "hidden_size": 32}', '"vit", has no usable vocab_size'),
        (
            '{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}',
            'of type "gpt2", which is no encoder; name an encoder \\(bert, distilbert, electra',
        ),
        ('{"model_type": "t5", "is_encoder_decoder": true}', '"t5", which is no encoder'),
        (
            json.dumps({"model_type": "bert", **DESCRIPTION, "hidden_size": "32"}),
            "has no usable hidden_size",
        ),
        (
            json.dumps({"model_type": "distilbert", **KINDS["distilbert"], "n_heads": 5}),
            "config.json: dim 32 is not a multiple of n_heads 5; restore the file",
        ),
    ],
)
def test_a_config_json_that_cannot_be_used_is_an_error(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(written(tmp_path / "model", text))
    assert [problem.key for problem in caught.value.problems] == ["model.pretrained"]
    assert caught.value.problems[0].remedy


def test_a_folder_without_config_json_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"has no config.json; save the model"):
        resolve(BertOptions(pretrained=str(tmp_path)))


def test_a_path_that_is_no_folder_is_not_asked_of_the_hub(tmp_path):
    with pytest.raises(ConfigError, match="there is no folder"):
        resolve(BertOptions(pretrained=str(tmp_path / "absent")))


def test_a_missing_hub_client_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'nlpkit-sdk\[train\]'"):
        resolve(BertOptions(pretrained="nobody/no-such-model"))


def test_frozen_layers_are_numbers_and_ranges():
    assert BertOptions(pretrained="x", freeze=[5, "embeddings", "0-2", "1"]).frozen_layers() == [
        0,
        1,
        2,
        5,
    ]


@pytest.mark.parametrize("part", ["pooler", "3-1", "1-", -1])
def test_a_part_that_cannot_be_frozen_is_an_error(part):
    with pytest.raises(ValidationError, match="neither embeddings nor a layer number"):
        BertOptions(pretrained="x", freeze=[part])


def test_freezing_a_layer_that_the_model_lacks_is_an_error(folder):
    with pytest.raises(ConfigError, match=r"model.freeze: there is no layer 3: the model has 3"):
        resolve(BertOptions(pretrained=str(folder), freeze=["1-4"]))


def test_resolving_imports_no_torch_and_no_transformers(minilm):
    code = (
        "import sys; from nlpkit_bert.config import BertOptions;"
        "from nlpkit_bert.resolve import resolve;"
        f"resolve(BertOptions(pretrained={minilm!r}));"
        "sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
