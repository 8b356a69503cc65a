"""The hub: what it has, where it is not, and who it asks for. None of it leaves this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

import nlpkit.pretrained
from nlpkit import ConfigError
from nlpkit.pretrained import Pretrained
from nlpkit_bert.config import BertOptions
from nlpkit_bert.resolve import check, resolve
from nlpkit_data.config import PretrainedConfig
from nlpkit_data.pretrained import build as build_tokenizer
from tests.pretrained.hub import BERT, Hub

CHECK = (
    "import sys\n"
    "from nlpkit.errors import ConfigError\n"
    "from nlpkit_bert.config import BertOptions\n"
    "from nlpkit_bert.resolve import resolve\n"
    "try:\n"
    "    print(resolve(BertOptions(pretrained='team/tiny')).max_length)\n"
    "except ConfigError as error:\n"
    "    sys.exit(str(error))\n"
)


@pytest.fixture
def hub():
    hub = Hub()
    hub.files["team/tiny"] = {"config.json": BERT, "vocab.txt": b"[UNK]\n"}
    yield hub
    hub.close()


def use(monkeypatch, tmp_path, url):
    """Has this process ask the hub at a URL, with a cache of its own."""
    constants = "huggingface_hub.constants."
    monkeypatch.setattr(constants + "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("NLPKIT_WORKSPACE", "HF_TOKEN", "HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def here(hub, monkeypatch, tmp_path):
    use(monkeypatch, tmp_path, hub.url)
    return hub


@pytest.fixture
def silent(monkeypatch, tmp_path):
    """The URL of a server that takes connections and never answers; nlpkit waits half a second."""
    monkeypatch.setattr(nlpkit.pretrained, "LIMIT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        use(monkeypatch, tmp_path, url)
        yield url


def model(name="team/tiny"):
    return Pretrained(name, "model.pretrained")


def found(*names, of="team/tiny"):
    return model(of).file(*names, remedy="do something")


def failure(*names, of="team/tiny"):
    with pytest.raises(ConfigError) as caught:
        found(*names, of=of)
    (problem,) = caught.value.problems
    assert problem.key == "model.pretrained"
    return problem


def test_a_file_is_fetched_once(here):
    assert found("config.json").read_bytes() == BERT
    assert found("config.json").read_bytes() == BERT
    assert [path for method, path in here.asked if method == "GET"] == [
        "/team/tiny/resolve/main/config.json"
    ]


def test_the_first_of_several_files_is_taken(here):
    assert found("tokenizer.json", "vocab.txt").name == "vocab.txt"
    assert model().optional("tokenizer_config.json") is None


def test_files_that_the_model_lacks_are_named_with_the_remedy(here):
    problem = failure("model.safetensors", "pytorch_model.bin")
    assert problem.message == '"team/tiny" has none of model.safetensors, pytorch_model.bin'
    assert problem.remedy == "do something"
    assert failure("tokenizer.json").message == '"team/tiny" has no tokenizer.json'


@pytest.mark.parametrize(
    ("status", "code", "message", "remedy"),
    [
        (404, "RepoNotFound", "has no such model, or none that you may see", "correct the id, set"),
        (401, "RepoNotFound", "has no such model, or none that you may see", "set HF_TOKEN, or"),
        (401, "", "has no such model, or none that you may see", "set HF_TOKEN, or"),
        (
            403,
            "GatedRepo",
            "gives it only to those who have asked for it",
            "ask on the model's page",
        ),
        (404, "", "answers 404", "set HF_ENDPOINT to a mirror, or name a local folder"),
        (503, "", "answers 503", "set HF_ENDPOINT to a mirror, or name a local folder"),
    ],
)
def test_what_the_hub_refuses_is_said_with_a_remedy_and_at_once(
    here, status, code, message, remedy
):
    here.refusals["team/tiny"] = (status, code)
    begun = time.monotonic()
    problem = failure("config.json", "other.json")
    assert time.monotonic() - begun < 2
    start = (
        f'"team/tiny" is no local folder and not in the hub\'s cache, and the hub at {here.url} '
    )
    assert problem.message.startswith(start + message)
    assert remedy in problem.remedy
    assert "name a local folder" in problem.remedy
    assert len(here.asked) == 1


def test_a_hub_that_does_not_answer_is_one_message_with_two_remedies_in_time(silent, capfd):
    begun = time.monotonic()
    problem = failure("model.safetensors", "pytorch_model.bin")
    assert time.monotonic() - begun < 1
    assert problem.message.startswith('"team/tiny" is no local folder and not in the hub\'s cache')
    assert f"the hub at {silent} cannot be reached (ReadTimeout" in problem.message
    assert problem.remedy == (
        "set HF_ENDPOINT to a mirror, or name a local folder that has the model"
    )
    assert capfd.readouterr() == ("", "")


def test_what_takes_longer_than_any_timeout_ends_in_time_too(silent, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: never.wait())
    begun = time.monotonic()
    assert "(TimeoutError: no answer within 0.5 s)" in failure("config.json").message
    assert 0.4 < time.monotonic() - begun < 1
    never.set()


def test_nothing_waits_longer_than_twenty_seconds():
    assert nlpkit.pretrained.LIMIT <= 20


def test_a_port_that_nobody_listens_on_is_one_message(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    use(monkeypatch, tmp_path, url)
    assert f"the hub at {url} cannot be reached (ConnectError" in failure("config.json").message


def test_what_was_fetched_before_is_read_from_the_cache_without_the_hub(here, monkeypatch):
    assert found("tokenizer.json", "vocab.txt").name == "vocab.txt"
    found("config.json")
    for how in ("down", "offline"):
        if how == "down":
            here.close()
        else:
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert found("config.json").read_bytes() == BERT
        assert found("tokenizer.json", "vocab.txt").name == "vocab.txt"
        assert model().optional("tokenizer_config.json") is None
        assert "not in the hub's cache" in failure("model.safetensors").message


def test_offline_with_an_empty_cache_is_one_message(here, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    problem = failure("config.json")
    assert f"({tmp_path / 'cache'}), and HF_HUB_OFFLINE keeps nlpkit from" in problem.message
    assert problem.remedy.startswith("run once without HF_HUB_OFFLINE, or name a local folder")
    assert here.asked == []


@pytest.mark.parametrize("name", ["a/b/c", "x y", "not//an/id"])
def test_what_is_no_id_is_not_asked_for(here, name):
    assert "is no local folder and no id of the hub" in failure("config.json", of=name).message
    assert here.asked == []


def test_a_page_that_is_no_hub_is_an_error(here):
    here.answer = lambda request: (request.send_response(200), request.end_headers())
    assert "cannot be reached (" in failure("config.json").message


def run(**environment):
    known = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "NLP"))}
    command = [sys.executable, "-c", CHECK]
    return subprocess.run(
        command, env=known | environment, capture_output=True, text=True, check=False
    )


def test_the_hubs_own_variables_are_honoured_and_no_token_is_shown(hub, tmp_path):
    hub.token = "hf_right"
    given = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    refused = run(**given, HF_TOKEN="hf_wrong").stderr
    assert "set HF_TOKEN" in refused
    assert hub.url in refused
    assert "hf_wrong" not in refused
    allowed = run(**given, HF_TOKEN="hf_right")
    assert (allowed.stdout, allowed.stderr) == ("40\n", "")
    asked = len(hub.asked)
    offline = run(**given, HF_HUB_OFFLINE="1")
    assert (offline.stdout, offline.stderr) == ("40\n", "")
    assert len(hub.asked) == asked


def test_a_model_of_sentence_transformers_says_its_pooling_and_length(here):
    modules = [
        {"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"},
    ]
    here.files["team/tiny"] |= {
        "modules.json": json.dumps(modules).encode(),
        "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
        "sentence_bert_config.json": b'{"max_seq_length": 24}',
    }
    resolution = resolve(BertOptions(pretrained="team/tiny"))
    assert (resolution.options.pooling, resolution.max_length) == ("cls", 24)
    (said,) = check(resolution.options)
    assert said.message.endswith("beside: Normalize")
    modules[0]["path"] = "0_Transformer"
    files = here.files["team/tiny"] | {"modules.json": json.dumps(modules).encode()}
    here.files["team/inside"] = files
    said = r"0_Transformer, which is not there; name a local folder"
    with pytest.raises(ConfigError, match=said):
        resolve(BertOptions(pretrained="team/inside"))


def test_a_tokenizer_is_made_of_files_that_the_hub_has(here):
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6, "<mask>": 7}
    here.files["team/tiny"] = {
        "config.json": b'{"model_type": "roberta"}',
        "vocab.json": json.dumps(vocabulary).encode(),
        "merges.txt": b"#version: 0.2\na b\n",
    }
    tokenizer = build_tokenizer(PretrainedConfig(pretrained="team/tiny"), None)
    assert tokenizer.encode("abb").ids == [0, 6, 5, 2]
