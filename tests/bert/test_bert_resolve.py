from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from nlpkit import ConfigError
from nlpkit_bert.config import BertOptions
from nlpkit_bert.resolve import resolve

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
    assert resolution.max_length == 512
    assert resolution.options.description["hidden_size"] == 384
    assert resolution.options.description["layer_norm_eps"] == 1e-12


def test_labels_and_paths_of_the_folder_are_left_behind(folder):
    description = resolve(BertOptions(pretrained=str(folder))).options.description
    assert not {"id2label", "_name_or_path", "architectures"} & description.keys()


def test_resolved_options_touch_no_file_and_survive_json(folder):
    first = resolve(BertOptions(pretrained=str(folder), freeze=["embeddings", "0-1"]))
    plain = json.loads(json.dumps(first.options.model_dump(mode="json")))
    (folder / "config.json").unlink()
    assert resolve(BertOptions(**plain)) == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": ', "is not JSON"),
        ("[1, 2]", 'describes a model of type "None", not "bert"'),
        ('{"model_type": "roberta"}', 'describes a model of type "roberta", not "bert"'),
        (
            json.dumps({"model_type": "bert", **DESCRIPTION, "hidden_size": "32"}),
            "has no usable hidden_size",
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


def test_a_hub_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"the hub does not give its config\.json") as caught:
        resolve(BertOptions(pretrained="nobody/no-such-model"))
    assert "name a local folder" in str(caught.value)


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
