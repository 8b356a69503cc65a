"""A folder as it is in the wild, from `nlpkit check` to predictions, by the command line."""

from __future__ import annotations

import json
import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import ByteLevelBPETokenizer

import nlpkit
import nlpkit.pretrained
from nlpkit.cli.main import main
from nlpkit.config.load import dump_config, load_config
from nlpkit.config.resolve import resolve
from nlpkit.plugin.host import Host
from tests.bert.conftest import KINDS, saved

WORDS = "where is my card the money has not arrived please refund".split()
ROWS = [(f"where is my card {word}", "card") for word in WORDS]
ROWS += [(f"please refund the money {word}", "money") for word in WORDS]


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config for rows and a pretrained model, in the working folder."""
    monkeypatch.chdir(tmp_path)
    lines = ["text,label", *(f"{text},{label}" for text, label in ROWS)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    settings = {
        "name": "wild",
        "data": {"train": "rows.csv"},
        "model": {"name": "bert", "pretrained": "tiny"},
        "train": {"max_steps": 2, "batch_size": 4},
        "loader": {"workers": 0},
    }
    path = tmp_path / "wild.yaml"
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture
def folder(config, tmp_path):
    """A DistilBERT of its first days: pytorch_model.bin and vocab.txt."""
    folder = saved(tmp_path / "tiny", "distilbert", head="MaskedLM")
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    return folder


def test_it_is_checked_trained_and_needed_no_more(config, folder, capsys):
    said = "tokenizer.pretrained: {} has no tokenizer.json; the one that is built from its"
    said = "warning: wild.yaml" + ": " + said.format(folder)
    assert main(["check", "wild.yaml"]) == 0
    checked = capsys.readouterr()
    assert said in checked.err
    assert "vocab.txt lower-cases, since the vocabulary has no capitals" in checked.err
    assert "at most 40 tokens" in checked.out
    assert main(["train", "wild.yaml"]) == 0, capsys.readouterr().err
    assert said in capsys.readouterr().err
    shutil.rmtree(folder)
    model = nlpkit.load("runs/wild")
    assert model.bundle.inputs == ("input_ids", "attention_mask")
    first, second = model.predict(["Where is my CARD", "where is my card"])
    assert first.label == second.label
    assert first.score == pytest.approx(second.score)


def test_a_roberta_of_before_tokenizer_json_is_trained_and_needed_no_more(config, tmp_path, capsys):
    folder = saved(tmp_path / "tiny", "roberta", vocab_size=300)
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(WORDS, vocab_size=280, special_tokens=special)
    tokenizer.save_model(str(folder))
    said = f"{folder} has no tokenizer.json; transformers makes it of its vocab.json"
    assert main(["check", "wild.yaml"]) == 0
    assert said in capsys.readouterr().err
    assert main(["train", "wild.yaml"]) == 0, capsys.readouterr().err
    shutil.rmtree(folder)
    model = nlpkit.load("runs/wild")
    assert model.bundle.vocabulary.special["pad"] == 1
    assert model.predict(["where is my card"])[0].label in ("card", "money")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_stores_of_a_model_is_read_back_as_it_was(config, tmp_path, kind):
    saved(tmp_path / "tiny", kind)
    host = Host.discover()
    resolved = resolve(load_config(config), host)
    stored = tmp_path / "config.yaml"
    stored.write_text(dump_config(resolved), encoding="utf-8")
    again = load_config(stored)
    assert again.model.options == resolved.model.options
    shutil.rmtree(tmp_path / "tiny")
    assert resolve(again, host).model.options == resolved.model.options


def test_a_hub_that_does_not_answer_is_the_only_problem_and_exit_code_2(
    config, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(nlpkit.pretrained, "LIMIT", 0.3)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name, value in {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        assert main(["check", "wild.yaml", "model.pretrained=team/tiny"]) == 2
    shown = capsys.readouterr().err
    assert len(shown.strip().splitlines()) == 1
    assert "override model.pretrained=team/tiny" in shown
    assert f"the hub at {url} cannot be reached" in " ".join(shown.split())
