"""Heads of transformers: the same logits as there, and what becomes of one that was trained."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import nlpkit
from nlpkit import ConfigError
from nlpkit.bundle.format import describe_export, seal
from nlpkit.config.schema import Component
from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit_bert.config import BertOptions
from nlpkit_bert.export import HuggingFaceExporter
from nlpkit_bert.heads import LibraryHead
from nlpkit_bert.model import build
from nlpkit_bert.resolve import resolve
from tests.bert.conftest import KINDS, saved
from tests.bert.test_encoders import LENGTHS, alone, texts
from tests.bundle.bundles import ROWS, TEXTS, make_run
from tests.exporters.exports import Exported

HEADS = {"sequence": "SequenceClassification", "token": "TokenClassification"}
LABELS = ("sad", "glad", "mad")
SPANS = [{"text": text, "spans": [{"start": 0, "end": 2, "label": "first"}]} for text in TEXTS]
OTHERS = {
    "camembert": KINDS["roberta"],
    "deberta-v2": {**KINDS["bert"], "type_vocab_size": 0},
    "mpnet": KINDS["roberta"],
}
"""Types that are tried."""


@pytest.fixture(params=[*KINDS, *OTHERS])
def kind(request, monkeypatch) -> str:
    monkeypatch.setitem(KINDS, request.param, {**OTHERS, **KINDS}[request.param])
    return request.param


@pytest.fixture(params=HEADS)
def level(request) -> str:
    return request.param


def folder_of(path, kind="bert", level="sequence", labels=LABELS, **settings):
    names = {"id2label": dict(enumerate(labels)), "num_labels": len(labels)}
    return saved(path, kind, head=HEADS[level], **names, **settings)


def model_of(
    folder, level="sequence", labels=LABELS, *, weights=True, size=None, tokens=60, **options
):
    options = resolve(BertOptions(pretrained=str(folder), **options)).options
    head = HeadSpec(size=size or len(labels) or 1, level=level, labels=labels)
    return build(options, head, Vocabulary(size=tokens, max_length=20), weights=weights).eval()


def said(model):
    (note,) = model.notes
    return note.partition(": ")[2]


@torch.no_grad()
def test_logits_are_those_of_transformers(tmp_path, kind, level):
    folder = folder_of(tmp_path / "tiny", kind, level)
    model = model_of(folder, level)
    assert isinstance(model.head, LibraryHead)
    assert model.trained
    assert said(model) == "its head is used"
    auto = getattr(transformers, f"AutoModelFor{HEADS[level]}")
    theirs = auto.from_pretrained(folder, dtype=torch.float32).eval()
    padding = theirs.config.pad_token_id
    expected = theirs(**texts(model, padding)).logits
    found = model(*texts(model, padding).values())
    real = texts(model)["attention_mask"].bool() if level == "token" else slice(None)
    assert torch.allclose(found[real], expected[real], rtol=0, atol=1e-6)


def test_padding_and_splitting_change_nothing_and_all_parameters_learn(tmp_path, kind, level):
    pools = {"classifier_pooling": "mean"} if kind == "modernbert" else {}
    model = model_of(folder_of(tmp_path / "tiny", kind, level, **pools), level).double()
    inputs = texts(model)
    together = model(*inputs.values())
    for row, length in enumerate(LENGTHS):
        own = together[row, :length] if level == "token" else together[row]
        assert torch.allclose(own, model(*alone(inputs, row))[0], rtol=0, atol=1e-12)
    model.train()(*inputs.values()).square().sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


@torch.no_grad()
def test_labels_are_told_by_their_names(tmp_path, level):
    folder = folder_of(tmp_path / "tiny", level=level)
    given = model_of(folder, level)
    inputs = texts(given).values()
    model = model_of(folder, level, ("glad", "mad", "sad"))
    assert torch.equal(model(*inputs), given(*inputs)[..., [1, 2, 0]])
    more = model_of(folder, level, ("glad", "new", "sad"))
    assert torch.equal(more(*inputs)[..., [0, 2]], given(*inputs)[..., [1, 0]])
    assert said(more) == "its head is used; new in it: new; left behind: mad"
    assert more.trained


def test_labels_without_names_are_left_behind_with_the_last_layer(tmp_path):
    folder = folder_of(tmp_path / "tiny", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    model = model_of(folder)
    assert said(model) == (
        "of its head is used bert.pooler.dense.weight, bert.pooler.dense.bias; new is "
        "classifier.weight, classifier.bias (its labels have no names; write id2label into its "
        "config.json); left behind: classifier"
    )
    assert not model.trained
    weights = load_file(folder / "model.safetensors")
    state = model.head.network.state_dict()
    assert torch.equal(state["bert.pooler.dense.weight"], weights["bert.pooler.dense.weight"])
    assert not torch.equal(state["classifier.weight"], weights["classifier.weight"])


@torch.no_grad()
def test_a_number_has_no_label(tmp_path):
    folder = folder_of(tmp_path / "tiny", labels=("LABEL_0",))
    model = model_of(folder, labels=())
    assert said(model) == "its head is used"
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = texts(model)
    assert torch.allclose(model(*inputs.values()), theirs(**inputs).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "level", "left"),
    [
        ({"head": "nlpkit"}, "sequence", "left behind: classifier, pooler.dense"),
        ({"pooling": "cls"}, "sequence", "left behind: classifier, pooler.dense"),
        ({}, "token", "left behind: classifier, pooler.dense"),
    ],
)
def test_a_head_that_is_not_used_is_named(tmp_path, options, level, left):
    model = model_of(folder_of(tmp_path / "tiny"), level, **options)
    assert (said(model), model.trained) == (left, False)
    assert not isinstance(model.head, LibraryHead)


def test_a_new_head_of_transformers_takes_the_pooler_that_there_is(tmp_path):
    folder = saved(tmp_path / "tiny", "bert", head="")
    model = model_of(folder, head="transformers")
    assert said(model) == (
        "of its head is used bert.pooler.dense.weight, bert.pooler.dense.bias; new is "
        "classifier.weight, classifier.bias"
    )
    assert not model.trained


@pytest.mark.parametrize(
    ("options", "level", "problem"),
    [
        ({"head": "transformers", "pooling": "mean"}, "sequence", "model.pooling: transformers' h"),
        ({"head": "nlpkit"}, "vocabulary", "model.head: nlpkit has no head of its own"),
    ],
)
def test_options_that_would_do_nothing_are_errors(tmp_path, options, level, problem):
    with pytest.raises(ConfigError, match=problem):
        model_of(folder_of(tmp_path / "tiny"), level, size=60, **options)


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("albert", {"embedding_size": 16}, "how AlbertForSequenceClassification pools is a part"),
        ("longformer", {"attention_window": 4}, "the head of LongformerForSequenceClass"),
    ],
)
def test_a_head_that_wants_its_encoder_is_left_behind_unless_it_is_asked_for(
    tmp_path, monkeypatch, kind, settings, why
):
    monkeypatch.setitem(KINDS, kind, {**KINDS["bert"], **settings})
    folder = folder_of(tmp_path / "tiny", kind)
    model = model_of(folder)
    assert said(model).startswith("left behind: classifier")
    assert not isinstance(model.head, LibraryHead)
    with pytest.raises(ConfigError, match=f"model.head: {why}"):
        model_of(folder, head="transformers")


def test_a_head_for_another_kind_of_target_is_left_behind(tmp_path):
    folder = folder_of(tmp_path / "tiny", problem_type="single_label_classification")
    options = resolve(BertOptions(pretrained=str(folder))).options
    head = HeadSpec(size=3, labels=LABELS, kind="multilabel")
    model = build(options, head, Vocabulary(size=60, max_length=20), weights=True)
    assert "(it is for another kind of target); left behind: classifier" in said(model)
    assert not model.trained


def test_a_number_may_have_any_name(tmp_path):
    folder = folder_of(tmp_path / "tiny", labels=("stars",), problem_type="regression")
    options = resolve(BertOptions(pretrained=str(folder))).options
    model = build(
        options,
        HeadSpec(size=1, kind="regression"),
        Vocabulary(size=60, max_length=20),
        weights=True,
    )
    assert (said(model), model.trained) == ("its head is used", True)


@pytest.mark.parametrize(
    ("names", "whole"),
    [
        ({"0": "sad", "1": "sad", "2": "mad"}, False),
        ({"0": "sad", "2": "mad", "3": "glad"}, False),
        (["sad", "glad", "mad"], False),
        ({"0": "sad", "1": "LABEL_1", "2": "mad"}, True),
    ],
)
def test_names_that_are_none_name_nothing(tmp_path, names, whole):
    folder = folder_of(tmp_path / "tiny")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "id2label": names}))
    model = model_of(folder)
    assert model.trained == whole
    assert ("new in it: glad; left behind: LABEL_1" if whole else "have no names") in said(model)


def test_what_has_no_place_in_a_head_is_named(tmp_path):
    folder = folder_of(tmp_path / "tiny")
    path = folder / "model.safetensors"
    save_file({**load_file(path), "crf.transitions": torch.zeros(3, 3)}, path)
    assert said(model_of(folder)) == "its head is used; left behind: crf"


def test_architectures_that_are_no_names_are_an_error(tmp_path):
    folder = folder_of(tmp_path / "tiny")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": 7}))
    with pytest.raises(ConfigError, match="architectures is no list of names"):
        model_of(folder)


def test_a_model_without_weights_takes_those_of_one_with(tmp_path, kind, level):
    folder = folder_of(tmp_path / "tiny", kind, level)
    trained = model_of(folder, level)
    completed = resolve(BertOptions(pretrained=str(folder))).options
    stored = BertOptions(**json.loads(json.dumps(completed.model_dump(mode="json"))))
    shutil.rmtree(folder)
    head = HeadSpec(size=3, level=level)  # a bundle of which labels are not asked
    rebuilt = build(stored, head, Vocabulary(size=60, max_length=20), weights=False).eval()
    rebuilt.load_state_dict(trained.state_dict(), strict=True)
    inputs = texts(rebuilt).values()
    assert torch.equal(rebuilt(*inputs), trained(*inputs))


def test_dropout_that_is_given_is_that_of_the_head_too(tmp_path, kind, level):
    folder = folder_of(tmp_path / "tiny", kind, level)
    quiet = model_of(folder, level, dropout=0.0)
    inputs = texts(quiet).values()
    assert torch.equal(quiet.train()(*inputs), quiet.eval()(*inputs))


def test_the_dropout_of_a_classifier_is_that_of_the_folder(tmp_path):
    model = model_of(folder_of(tmp_path / "tiny", classifier_dropout=0.35))
    assert model.head.network.dropout.p == 0.35


def test_weights_whose_header_never_ends_are_damaged(tmp_path):
    folder = folder_of(tmp_path / "tiny")
    path = folder / "model.safetensors"
    path.write_bytes((2**30).to_bytes(8, "little") + b"{" + b" " * 1000)
    with pytest.raises(ConfigError, match="is damaged"):
        model_of(folder)


def test_a_table_of_the_head_of_another_shape_is_new(tmp_path):
    folder = folder_of(tmp_path / "tiny")
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["classifier.weight"] = torch.zeros(3, 8)
    save_file(weights, path)
    assert "new is classifier.weight, classifier.bias" in said(model_of(folder))


@torch.no_grad()
@pytest.mark.parametrize("head", ["nlpkit", "transformers"])
def test_the_head_of_a_run_is_gone_on_with(tmp_path, head):
    tiny = saved(tmp_path / "tiny", "bert", vocab_size=150)
    options = {"name": "bert", "pretrained": str(tiny), "head": head}
    run = make_run(tmp_path / "run", model=options)  # whose labels are arrival, balance and lost
    loaded = nlpkit.load(run, backend="torch").engine.model
    model = model_of(run, labels=("lost", "new", "arrival"), tokens=150)
    assert said(model) == "its head is used; new in it: new; left behind: balance"
    assert isinstance(model.head, LibraryHead) == (head == "transformers")
    inputs = texts(model).values()
    found, expected = model(*inputs), loaded(*inputs)
    assert torch.allclose(found[:, [0, 2]], expected[:, [2, 0]], rtol=0, atol=1e-6)
    other = "transformers" if head == "nlpkit" else "nlpkit"
    assert not model_of(run, head=other, tokens=150).trained


EVIL = {
    "attn_implementation": "evil/kernels",
    "auto_map": {"AutoModelForSequenceClassification": "evil.Model", "AutoConfig": "evil.Config"},
    "quantization_config": {"quant_method": "evil"},
    "trust_remote_code": True,
}


@pytest.fixture
def _compared_elsewhere(monkeypatch):
    """No process without nlpkit is started: that of law 11's own tests is."""
    monkeypatch.setattr("nlpkit_bert.export._compare", lambda *_: None)


@pytest.mark.usefixtures("_compared_elsewhere")
def test_nothing_that_an_export_names_is_executed(tmp_path):
    tiny = saved(tmp_path / "tiny", "bert", head="SequenceClassification", vocab_size=150)
    options = {"name": "bert", "pretrained": str(tiny), "head": "transformers"}
    given = nlpkit.load(make_run(tmp_path / "run", model=options), backend="torch")
    out, export = tmp_path / "out", Component(name="huggingface")
    out.mkdir()
    describe_export(given.bundle, out, export, given.host)
    (graph,) = given.engine.modules.values()
    sample = {name: each.numpy() for name, each in texts(given.engine.model).items()}
    artifact = HuggingFaceExporter().export({"model": replace(graph, sample=sample)}, out)
    assert {each.name for each in artifact.files} == {
        *("config.json", "model.safetensors", "README.md")
    }
    card, config = ((out / name).read_bytes() for name in ("README.md", "config.json"))
    config = json.loads(config)
    assert config["pad_token_id"] == 0
    assert config["id2label"] == {"0": "arrival", "1": "balance", "2": "lost"}
    (out / "config.json").write_text(json.dumps(config | EVIL))
    seal(out)
    assert model_of(out, labels=("lost",), tokens=150).trained  # a folder like any other
    (out / "README.md").write_text("mine")
    assert model_of(out, labels=("lost",), tokens=150).trained
    (out / "README.md").write_bytes(card)
    (found,) = HuggingFaceExporter().open(out)["model"](sample)
    with torch.no_grad():
        expected = given.engine.model(*map(torch.from_numpy, sample.values()))
    assert torch.allclose(torch.from_numpy(found), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "model", "refused"),
    [
        ("sequence", {"name": "transformer"}, 'and "transformer" is none'),
        ("sequence", {"head": "nlpkit"}, "train with model.head: transformers"),
        ("sequence", {"description": {"head": "token"}}, "train with model.head: transformers"),
        ("sequence", {"description": {"head": "sequence"}}, None),
        ("sequence", {"head": "transformers"}, None),
        ("token", {"head": "nlpkit"}, None),
        ("token", {"description": {"model_type": "modernbert"}}, "train with model.head: trans"),
        ("mlm", {}, None),
    ],
)
def test_what_is_no_model_of_transformers_is_refused_before_it_trains(task, model, refused):
    config = SimpleNamespace(
        task=Component(name=task), model=Component(**{"name": "bert", **model})
    )
    found = HuggingFaceExporter().check(config)
    assert (refused is None) == (not found)
    assert refused is None or refused in found[0]


@pytest.mark.usefixtures("_compared_elsewhere")
@pytest.mark.parametrize(
    ("kind", "task", "rows"),
    [
        ("electra", {"name": "token", "label": "spans"}, SPANS),
        ("roberta", {"name": "mlm"}, ROWS),
    ],
)
def test_other_tasks_go_out_too(tmp_path, kind, task, rows):
    tiny = saved(tmp_path / "tiny", kind, vocab_size=150)
    model = {"name": "bert", "pretrained": str(tiny)}
    run = make_run(tmp_path / "run", rows, model=model, **task)
    exported = Exported(run, "huggingface", tmp_path / "out")
    assert exported.difference(3, 7) <= 1e-6 * 32  # logits of weights that make them large
    assert exported.difference(1, 16) <= 1e-6 * 32
