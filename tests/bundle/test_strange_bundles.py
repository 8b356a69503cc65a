"""A bundle that a stranger wrote has a valid seal whatever it holds: a message, and at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import nlpkit
from nlpkit.errors import BundleError, DataError, NlpkitError
from nlpkit.files import hashes, seal_of

if TYPE_CHECKING:
    from pathlib import Path


def sealed(run: Path, description: dict[str, Any]) -> None:
    bundle = run / "bundle"
    found = hashes(bundle, {bundle / "tokenizer.json", bundle / "model.safetensors"})
    description["files"] = {**description["files"], **found}
    text = json.dumps({**description, "seal": seal_of(description)})
    (bundle / "nlpkit.json").write_text(text)


def described(run: Path) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((run / "bundle" / "nlpkit.json").read_bytes())
    return description


def write(run: Path, path: str, value: object) -> None:
    description = described(run)
    *parents, key = path.split(".")
    place = description
    for parent in parents:
        place = place[parent]
    place[key] = value
    sealed(run, description)


LARGER = "describes another model than model.safetensors holds, one that is far larger"
LABELS = "what it says of the labels does not fit its model: "
GRAPHS = "nlpkit.json: the graphs that it describes are not those of its model"
UNUSABLE = "nlpkit.json: what it describes does not predict ("
SIZE = "a size is no whole number from 1 to 16,777,216"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("schema.labels", ["arrival"], LABELS),
        ("schema.labels", ["a", "b", "c", "d"], LABELS),
        ("schema.labels", None, LABELS),
        ("schema.labels", [1, 2, 3], "the labels are no list of texts"),
        ("schema.labels", "abc", "the labels are no list of texts"),
        ("schema.labels", ["a", "b", "a"], "a label stands twice"),
        ("schema", {}, LABELS),
        ("head.level", "galaxy", LABELS),
        ("head.size", 10**9, SIZE),
        ("head.size", -1, SIZE),
        ("head.size", 10**7, LABELS),
        ("head.over", "pixels", LABELS),
        ("head", {"size": 3, "shape": 1}, "is not as nlpkit writes it (TypeError"),
        ("vocabulary", {"size": 120}, "is not as nlpkit writes it (TypeError"),
        ("vocabulary.size", "many", SIZE),
        ("vocabulary.size", 10**7, LARGER),
        ("vocabulary.size", 7, "has a token of the id"),
        ("vocabulary.max_length", 10**12, SIZE),
        ("vocabulary.max_length", 2**24, LARGER),
        ("vocabulary.max_length", 1, "does not predict (1 tokens have no room"),
        ("model.options.layers", 10**9, LARGER),
        ("task.name", 5, "is not as nlpkit writes it"),
        ("task.options.target", "regression", UNUSABLE),
        ("task.options.class_weights", 0, "nlpkit.json: task sequence: class_weights: "),
        ("schema.type", "int", UNUSABLE),
        ("schema.type", [], UNUSABLE),
        ("model.inputs", ["foo"], "takes input_ids, attention_mask, not foo"),
        ("graphs", [], "is not as nlpkit writes it (AttributeError"),
        ("graphs", {}, "is not as nlpkit writes it (KeyError"),
        ("graphs.model", {"inputs": {}}, "is not as nlpkit writes it (TypeError"),
        ("graphs.model.inputs", {"foo": ["rows"]}, "takes foo, not input_ids, attention_mask"),
        ("graphs.model.inputs.input_ids", "rows", "axes are names, and sizes from 1 to 16,777,216"),
        ("graphs.model.inputs.input_ids", ["rows", 0], "axes are names, and sizes from 1 to"),
        ("graphs.model.inputs.input_ids", ["rows", "slots"], GRAPHS),
        ("graphs.model.outputs.logits", ["rows", 4], GRAPHS),
        ("vocabulary.special", {"mask": 10**6}, "a special token has no id of the vocabulary"),
        ("vocabulary.special", {"mask": "4"}, "a special token has no id of the vocabulary"),
        ("vocabulary.special", [4], "is not as nlpkit writes it (AttributeError"),
        ("graphs.other", {"inputs": {}, "outputs": {}}, GRAPHS),
    ],
)
def test_a_value_that_fits_nothing_is_named_at_once(run, path, value, said):
    write(run, path, value)
    with pytest.raises(BundleError) as caught:
        nlpkit.load(run)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("option", "size"), [("hidden", 10**9), ("feed_forward", 10**9), ("feed_forward", 10**12)]
)
def test_a_tensor_that_is_too_large_is_refused_before_it_is_filled(run, option, size):
    write(run, f"model.options.{option}", size)
    with pytest.raises(BundleError, match="far larger"):
        nlpkit.load(run)


@pytest.mark.parametrize("content", [bytes(8), b"\xff" * 100])
def test_weights_that_are_no_safetensors_are_named(run, content):
    (run / "bundle" / "model.safetensors").write_bytes(content)
    sealed(run, described(run))
    with pytest.raises(BundleError, match="model.safetensors: is no safetensors file"):
        nlpkit.load(run)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "is no tokenizer (Exception: Model missing."),
        ("[]", "is no tokenizer"),
        ("[" * 100_000, "is no tokenizer"),
    ],
)
def test_a_tokenizer_that_is_none_is_named(run, content, said):
    path = run / "bundle" / "tokenizer.json"
    path.write_text(content)
    sealed(run, described(run))
    with pytest.raises(BundleError) as caught:
        nlpkit.load(run)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def retokenized(run: Path, **changes: object) -> None:
    path = run / "bundle" / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))
    sealed(run, described(run))


@pytest.mark.parametrize(
    "truncation",
    [None, {"max_length": 0}, {"max_length": 2}, {"max_length": 16, "stride": 14}],
)
def test_how_a_tokenizer_itself_pads_and_cuts_changes_no_prediction(run, truncation):
    texts = ["money", "card " * 100]
    expected = nlpkit.load(run).predict(texts)
    if truncation:
        usual = {"direction": "Right", "strategy": "LongestFirst", "stride": 0}
        truncation = {**usual, **truncation}
    padding = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}
    padding |= {"strategy": {"Fixed": 4_000}, "pad_token": "[PAD]"}
    retokenized(run, padding=padding, truncation=truncation)
    assert nlpkit.load(run).predict(texts) == expected


def test_a_token_that_the_model_does_not_know_is_named(run):
    added = {"id": 10_000, "content": "zzz", "special": False, "normalized": False}
    added |= {"single_word": False, "lstrip": False, "rstrip": False}
    known = json.loads((run / "bundle" / "tokenizer.json").read_bytes())["added_tokens"]
    retokenized(run, added_tokens=[*known, added])
    with pytest.raises(BundleError, match="has a token of the id .*; its model takes those below"):
        nlpkit.load(run)


def test_a_text_that_makes_the_tokenizer_panic_costs_no_other(run):
    pattern = {"Regex": "(a+)+$"}
    retokenized(run, normalizer={"type": "Replace", "pattern": pattern, "content": "x"})
    texts = ["money", "a" * 40 + "b", "card"]
    first, failed, last = nlpkit.load(run).outcomes(texts)
    assert isinstance(failed, DataError)
    assert str(failed).startswith("text 1: is no text for ")
    assert "PanicException" in str(failed)
    assert [first, last] == nlpkit.load(run).predict(["money", "card"])
    with pytest.raises(DataError, match="text 1: "):
        nlpkit.load(run).predict(texts)


def test_a_description_of_brackets_alone_is_damaged(run):
    path = run / "bundle" / "nlpkit.json"
    path.write_text("[" * 100_000)
    with pytest.raises(BundleError, match="is damaged .it is nested too deeply"):
        nlpkit.load(run)


def test_options_that_are_nested_deeply_are_an_input_error(run):
    description = described(run)
    description["task"]["options"]["text"] = json.loads("[" * 900 + "]" * 900)
    sealed(run, description)
    with pytest.raises(NlpkitError):
        nlpkit.load(run)


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", [None, "[" * 100_000, "no JSON", b"\xff"])
def test_a_file_of_a_run_that_cannot_be_read_is_named(run, name, content):
    if content is None:
        (run / name).mkdir()
    else:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BundleError, match=f"{name}: cannot be read .*; restore it"):
        _ = nlpkit.Run(run).result if name == "result.json" else nlpkit.Run(run).history
