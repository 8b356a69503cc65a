"""Runs of `clm` and `mlm` on files of text: trained, measured, loaded, asked; and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import nlpkit
from nlpkit.checking.config import check
from nlpkit.cli.main import main
from nlpkit.errors import BundleError, ConfigError, InputError
from tests.tasks.language import texts

pytestmark = pytest.mark.slow

MODELS = """
import nlpkit
from tests.tasks.language import Tiny


def build(options, head, vocabulary, *, weights):
    return Tiny(head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    able = {"target": "tiny_models:build", "levels": ("vocabulary", "next")}
    yield nlpkit.ModelRecord(name="tiny", documents=True, **able)
    yield nlpkit.ModelRecord(name="mixing", **able)
"""
LINES = [*texts(60), "the [SEP] cat", "a mat"]


def config(folder: Path, task: Any, **changes: Any) -> dict[str, Any]:
    (folder / "tiny_models.py").write_text(MODELS)
    for name, lines in (("train.txt", LINES), ("held.txt", texts(20, seed=8))):
        (folder / name).write_text("\n\n".join(lines) + "\n")
    return {
        "name": "words",
        "plugins": [str(folder / "tiny_models.py")],
        "task": task,
        "data": {"train": str(folder / "train.txt"), "validation": str(folder / "held.txt")},
        "tokenizer": {"max_length": 24},
        "model": "tiny",
        "train": {"epochs": 6, "batch_size": 8, "learning_rate": 0.02},
        "device": "cpu",
        "observers": [],
        **changes,
    }


def trained(tmp_path_factory: pytest.TempPathFactory, task: Any, **changes: Any) -> nlpkit.Run:
    folder = tmp_path_factory.mktemp("language")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        return nlpkit.train(config(folder, task, **changes), out=folder / "run")


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> nlpkit.Run:
    return trained(tmp_path_factory, "clm")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> nlpkit.Run:
    return trained(tmp_path_factory, "mlm")


def test_rows_and_samples_are_told_apart(writer, reader):
    for run in (writer, reader):
        data = run.result["data"]
        assert data["rows"] == {"train": 62, "validation": 20}
        assert data["samples"]["validation"] > 20  # cut
        assert data["samples"]["train"] < 3 * data["samples"]["validation"]  # and joined
        assert run.result["samples"] == {"validation": data["samples"]["validation"]}
        assert data["truncated"] == {"train": 0.0, "validation": 0.0}
    per_epoch = -(-writer.result["data"]["samples"]["train"] // 8)
    assert writer.result["steps"] == 6 * per_epoch


def test_a_model_learns_and_is_chosen_by_its_perplexity(writer, reader):
    assert [*writer.metrics["validation"]] == [
        "loss", "perplexity", "token_accuracy", "bits_per_byte"
    ]  # fmt: skip
    assert [*reader.metrics["validation"]] == ["loss", "perplexity", "token_accuracy"]
    for run in (writer, reader):
        assert run.result["monitor"] == "perplexity"
        values = run.metrics["validation"]
        assert values["perplexity"] == pytest.approx(np.exp(values["loss"]), rel=1e-5)
    assert writer.metrics["validation"]["perplexity"] < 60 < 250


def test_an_evaluation_of_the_bundle_says_the_same_again(writer, reader):
    for run in (writer, reader):
        held = Path(run.path).parent / "held.txt"
        again = nlpkit.evaluate(run, held, trust_plugins=True)
        assert again == pytest.approx(run.metrics["validation"], rel=1e-5)


def test_nothing_is_predicted_of_rows_in_an_evaluation(writer, tmp_path):
    assert not (Path(writer.path) / "predictions").exists()
    with pytest.raises(BundleError, match="the task predicts nothing of rows in an evaluation"):
        writer.predictions("validation")
    held = Path(writer.path).parent / "held.txt"
    with pytest.raises(InputError, match=r'a.jsonl: task "clm" predicts nothing of such rows'):
        nlpkit.evaluate(writer, held, output=tmp_path / "a.jsonl", trust_plugins=True)


def test_a_bundle_knows_its_special_tokens_and_the_way_back(writer):
    described = json.loads((Path(writer.path) / "bundle" / "nlpkit.json").read_bytes())
    roles = {"pad": 0, "unk": 1, "mask": 4, "bos": 2, "eos": 3, "sep": 3, "cls": 2}
    assert described["vocabulary"]["special"] == roles
    assert described["tokenizer"]["name"] == "bpe"
    vocabulary = nlpkit.load(writer, trust_plugins=True).codec.vocabulary
    assert vocabulary.special == roles
    text = "The cat sat on a mat"
    ids = vocabulary.tokenizer.encode(text).ids
    assert vocabulary.text(ids) == text
    assert [vocabulary.token(id) for id in ids[:3]] == ["[CLS]", "Ġ", "T"]


def test_a_writer_says_what_comes_next(writer):
    model = nlpkit.load(writer, trust_plugins=True)
    one, other = model.predict(["the cat sat on", "the [SEP]"])
    assert one.continuation.startswith(" ")
    assert one.score < 0
    assert one.complete is other.complete is False
    assert vars(model.predict(["the cat sat on"])[0]) == pytest.approx(vars(one))


def test_settings_of_the_command_stand_behind_one_another(writer, capsys):
    asked, said = ["predict", str(writer.path), "--trust-plugins"], []
    for between in ([], ["--generate"]):
        given = ["method=sample", *between, "max_tokens=2", *between, "seed=4"]
        assert main([*asked, "--generate", *given, "the cat"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert '"text": "the cat"' in said[0]
    assert main([*asked, "--generate", "max_tokens=2", "--", "seed=1"]) == 0
    assert '"text": "seed=1"' in capsys.readouterr().out


def test_a_reader_fills_each_mask_where_it_stands(reader):
    model = nlpkit.load(reader, trust_plugins=True)
    none, two = model.predict(["the cat [SEP] sat", "the [MASK] sat on a[MASK]."])
    assert none.tokens == []
    assert [(each["start"], each["end"]) for each in two.tokens] == [(4, 10), (19, 25)]
    for each in two.tokens:
        scores = [found["score"] for found in each["candidates"]]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) < 1
        assert all(found["token"].strip() for found in each["candidates"])
    assert model.predict(["the [MASK]"])[0].tokens[0]["candidates"][0]["score"] > 0.05


def bare(folder: Path, *special: str) -> str:
    """A pretrained tokenizer with no more special tokens than these."""
    words = {word: id for id, word in enumerate(["[UNK]", *special, *"the cat sat on".split()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


REFUSED = {
    "mlm without a mask": (
        {"task": "mlm"},
        ["<s>", "</s>"],
        'tokenizer: has no token for the role "mask", which task "mlm" needs; wordpiece, bpe and '
        "char have one; of a pretrained tokenizer tokenizer_config.json names it, as mask_token",
    ),
    "clm without a beginning": ({"task": "clm"}, ["</s>"], 'has no token for the role "bos"'),
    "clm without an end": ({"task": "clm"}, ["<s>"], 'has no token for the role "eos"'),
    "a model that reads for one that writes": (
        {"task": "clm", "model": {"name": "bert", "pretrained": None}},
        None,
        'model: "bert" gives no outputs of the level "next", which task "clm" wants; take one that '
        "does: ",
    ),
    "a model that mixes texts": (
        {"task": "mlm", "model": "mixing"},
        None,
        'task.pack: "mixing" does not keep the texts that share a row apart; set it to false, or '
        "take a model that does: ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_check_and_before_training(case, tmp_path, monkeypatch):
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    changes, special, message = REFUSED[case]
    if special is not None:
        pretrained = bare(tmp_path / "tokenizer", *special)
        changes = {**changes, "tokenizer": {"name": "pretrained", "pretrained": pretrained}}
    settings = config(tmp_path, **changes)
    if settings["model"] != "tiny" and "bert" in str(settings["model"]):
        settings["model"] = bert(tmp_path)
        settings["tokenizer"] = {"name": "bpe"}
    found = [str(problem) for problem in check(settings) if problem.severity == "error"]
    assert len(found) == 1
    assert message in found[0]
    with pytest.raises(ConfigError) as caught:
        nlpkit.train(settings, out=tmp_path / "run")
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def bert(folder: Path) -> dict[str, Any]:
    """A tiny one, of random weights."""
    import transformers

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    options = transformers.BertConfig(vocab_size=9000, intermediate_size=16, **sizes)
    transformers.BertModel(options).save_pretrained(folder / "bert")
    return {"name": "bert", "pretrained": str(folder / "bert")}


def test_without_packing_any_model_that_has_the_level_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    task = {"name": "mlm", "pack": False}
    found = check(config(tmp_path, task, model="mixing"))
    assert [problem for problem in found if problem.severity == "error"] == []


def test_check_says_which_texts_do_not_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    settings = config(tmp_path, "clm", tokenizer={"name": "wordpiece", "lowercase": True})
    (tmp_path / "train.txt").write_text("The cat\n" + "\n".join(texts(60)) + "\nThe cat sat\n")
    (warning,) = [str(each) for each in check(settings) if "give back" in str(each)]
    assert "train.txt:1: 2 of 82 rows have a text that its tokens do not give back" in warning


def test_check_counts_a_row_with_a_prompt_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    rows = [{"text": f" {text}", "before": text} for text in texts(20)]
    task = {"name": "clm", "prompt": "before"}
    found = nlpkit.check(config(tmp_path, task), {"train": rows, "validation": rows[:5]})
    (warning,) = [str(each) for each in found if "give back" in str(each)]
    assert "25 of 25 rows have a text that its tokens do not give back" in warning
