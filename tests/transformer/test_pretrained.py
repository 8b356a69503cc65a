"""A transformer that begins with the weights of another: of a run that filled masks, or wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

import nlpkit
from nlpkit import ConfigError
from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.model import build
from nlpkit_transformer.pretrained import check, resolve
from tests.bundle.bundles import ROWS, make_run
from tests.tasks.language import pairs

SMALL = {"name": "transformer", "layers": 2, "hidden": 16, "heads": 2}
STILL = {"max_steps": 1, "learning_rate": 1e-30, "warmup_ratio": 0.0}
HEADS = {
    "mlm": HeadSpec(level="vocabulary", size=120, over="masked"),
    "clm": HeadSpec(level="next", size=120),
    "sequence": HeadSpec(size=3, labels=("arrival", "balance", "lost")),
}
TRANSLATED = HeadSpec(level="target", size=120)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A run of each task, with weights that were never trained."""
    folder = tmp_path_factory.mktemp("begins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        made = {
            name: make_run(folder / name, name=name, model={**SMALL, **more})
            for name, more in {"mlm": {}, "clm": {"norm": "post"}, "sequence": {}}.items()
        }
        learned = {**SMALL, "positions": "learned", "tied": False}
        made["learned"] = make_run(folder / "learned", name="mlm", model=learned)
        rows, name = pairs(8), "seq2seq"
        return {**made, "both": make_run(folder / "both", rows, name=name, model=SMALL)}


def begun(run, task, **options):
    """A model for a task that begins with a run's weights, and these."""
    found = resolve(TransformerConfig(pretrained=str(run), **options))
    size, head = found.vocabulary, HEADS.get(task, TRANSLATED)
    model = build(found.options, head, Vocabulary(size=size, max_length=12), weights=True)
    return model, load_file(run / "bundle" / "model.safetensors")


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("origin", HEADS)
def test_embedding_and_blocks_are_those_of_the_run(runs, origin, task):
    model, stored = begun(runs[origin], task)
    own, blocks = model.state_dict(), 0
    for name, tensor in stored.items():
        kept = name.replace("encoder", "decoder") if task == "clm" else name
        kept = kept if task == "clm" else name.replace("decoder", "encoder")
        if kept.partition(".")[0] in ("embedding", "encoder", "decoder"):
            assert own[kept].equal(tensor)
            blocks += 1
    assert blocks > 20
    own = ["its head is used"] if task == "sequence" else ["its head is left behind"]
    left = own * (origin == "sequence")
    assert [note.partition(": ")[2] for note in model.notes] == left


@pytest.mark.parametrize(("origin", "own", "new"), [("mlm", "en", "de"), ("clm", "de", "en")])
def test_one_of_encoder_and_decoder_begins_with_it_and_the_other_is_new(runs, origin, own, new):
    model, stored = begun(runs[origin], "seq2seq")
    weights = model.state_dict()
    for name, tensor in stored.items():
        assert weights[name].equal(tensor)
    blocks = [each for each in weights if each.startswith(f"{own}coder.") and ".cross" not in each]
    assert {*blocks} == {each for each in stored if each.startswith(f"{own}coder.")}
    assert [note.partition(": ")[2] for note in model.notes] == [f"has no {new}coder, which is new"]


def test_a_new_decoder_has_as_many_blocks_as_are_asked_for(runs):
    model, _ = begun(runs["mlm"], "seq2seq", decoder_layers=3)
    assert [len(each.layers) for each in (model.encoder, model.decoder)] == [2, 3]
    with pytest.raises(ConfigError, match="was trained with decoder_layers: 2"):
        resolve(TransformerConfig(pretrained=str(runs["clm"]), decoder_layers=3))
    model, _ = begun(runs["clm"], "seq2seq", decoder_layers=2)
    assert len(model.decoder.layers) == 2


def test_what_is_left_behind_of_both_is_named(runs):
    model, stored = begun(runs["both"], "clm")
    own = model.state_dict()
    blocks = {*own} - {"output.table"}  # which is that of the embedding
    assert blocks <= {*stored}
    assert all(own[name].equal(stored[name]) for name in blocks)
    left = [note.partition(": its ")[2] for note in model.notes]
    assert left == ["cross-attention is left behind", "encoder is left behind"]


def test_sizes_and_positions_are_those_of_the_run(runs):
    writer, _ = begun(runs["clm"], "sequence")
    assert writer.embedding.rotary  # though one that reads is not by itself
    found = resolve(TransformerConfig(pretrained=str(runs["clm"]), dropout=0.5)).options
    shape = found.layers, found.hidden, found.heads, found.feed_forward, found.norm, found.dropout
    assert shape == (2, 16, 2, 64, "post", 0.5)
    shutil.copytree(runs["clm"], moved := runs["clm"].parent / "moved")
    options = resolve(TransformerConfig(pretrained=str(moved))).options.model_dump()
    shutil.rmtree(moved)
    assert resolve(TransformerConfig(**options)).options.layers == 2  # it needs no file any more


def test_learned_positions_have_an_end_and_a_table_of_words_is_kept(runs):
    assert resolve(TransformerConfig(pretrained=str(runs["learned"]))).max_length == 16
    assert resolve(TransformerConfig(pretrained=str(runs["mlm"]))).max_length is None
    model, stored = begun(runs["learned"], "mlm")
    assert model.embedding.positions.equal(stored["embedding.positions"][:12])
    assert model.output.table.equal(stored["output.table"])
    reader, _ = begun(runs["learned"], "sequence")
    assert "its output is left behind" in reader.notes[0]


def test_what_does_not_fit_is_named(runs, tmp_path):
    with pytest.raises(ConfigError, match="was trained with layers: 2"):
        resolve(TransformerConfig(pretrained=str(runs["mlm"]), layers=3))
    with pytest.raises(ConfigError, match="no run and no bundle"):
        resolve(TransformerConfig(pretrained=str(tmp_path)))
    options = resolve(TransformerConfig(pretrained=str(runs["mlm"]))).options
    with pytest.raises(ConfigError, match=r"embedding.tokens.weight is \[\d+, 16\].*take its tok"):
        build(options, HEADS["mlm"], Vocabulary(size=7, max_length=16), weights=True)
    shutil.copytree(runs["mlm"], torn := tmp_path / "torn")
    weights = torn / "bundle" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"0000")
    with pytest.raises(ConfigError, match="model.pretrained"):
        check(TransformerConfig(pretrained=str(torn)))


def test_sizes_that_are_all_named_are_those_of_the_run(runs):
    made = resolve(TransformerConfig(pretrained=str(runs["mlm"]))).options.model_dump()
    heads = TransformerConfig(**{**made, "heads": 4})  # no shape of a weight says how many
    with pytest.raises(ConfigError, match=r"model.heads: .* was trained with heads: 2"):
        check(heads)
    with pytest.raises(ConfigError, match=r"model.heads: .* was trained with heads: 2"):
        build(heads, HEADS["mlm"], Vocabulary(size=120, max_length=16), weights=True)
    assert resolve(heads).options.heads == 4  # for a run that goes on without it


@pytest.mark.parametrize("size", [120, 60])
def test_a_tokenizer_with_other_tokens_is_refused(runs, tmp_path, monkeypatch, size):
    monkeypatch.chdir(tmp_path)
    texts = [{**row, "text": row["text"].replace("a", "o")} for row in ROWS]
    rows = {"train": texts, "validation": texts}
    config = {
        "name": "others",
        "model": {"name": "transformer", "pretrained": str(runs["mlm"])},
        "tokenizer": {"name": "wordpiece", "vocab_size": size},
        "train": STILL,
    }
    (problem,) = (each for each in nlpkit.check(config, data=rows) if each.severity == "error")
    assert "its tokens are not those of" in str(problem)
    with pytest.raises(ConfigError, match="the tokens of .* are others; take its tokenizer"):
        nlpkit.train(config, data=rows)


def test_a_run_of_one_task_begins_with_that_of_another(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = {
        "name": "labels",
        "model": {"name": "transformer", "pretrained": str(runs["mlm"])},
        "train": STILL,
    }
    rows = {"train": ROWS, "validation": ROWS}
    assert not [each for each in nlpkit.check(config, data=rows) if each.severity == "error"]
    run = nlpkit.train(config, data=rows)
    stored = (load_file(each / "bundle/model.safetensors") for each in (runs["mlm"], run.path))
    before, after = stored
    for name in before:
        assert after[name].equal(before[name])
    tokenizers = [each / "bundle/tokenizer.json" for each in (runs["mlm"], run.path)]
    first, second = (json.loads(path.read_bytes()) for path in tokenizers)
    assert first["model"] == second["model"]
    shutil.move(runs["mlm"], tmp_path / "gone")
    assert len(nlpkit.load(run).predict(["my card"])) == 1
    shutil.move(tmp_path / "gone", runs["mlm"])


def test_the_head_of_a_run_is_gone_on_with_label_by_label(runs):
    options = resolve(TransformerConfig(pretrained=str(runs["sequence"]))).options
    vocabulary = Vocabulary(size=120, max_length=12)
    head = HeadSpec(size=3, labels=("lost", "new", "arrival"))
    model = build(options, head, vocabulary, weights=True)
    stored = load_file(runs["sequence"] / "bundle" / "model.safetensors")
    for name, ours in (("weight", model.head.linear.weight), ("bias", model.head.linear.bias)):
        theirs = stored[f"head.linear.{name}"]
        assert ours[0].equal(theirs[2])
        assert ours[2].equal(theirs[0])
    assert model.trained
    assert model.notes[0].endswith("its head is used; new in it: new; left behind: balance")
    assert options.pooling == "mean"
    cls = resolve(TransformerConfig(pretrained=str(runs["sequence"]), pooling="cls")).options
    assert not build(cls, head, vocabulary, weights=True).trained
