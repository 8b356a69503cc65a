"""A folder of sentence-transformers: its encoder, its pooling, and what is left of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

import nlpkit
import nlpkit.pretrained
from nlpkit import ConfigError
from nlpkit.cli.main import main
from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit.pretrained import Pretrained
from nlpkit_bert.config import BertOptions
from nlpkit_bert.model import build
from nlpkit_bert.resolve import check, resolve
from nlpkit_data.config import PretrainedConfig
from nlpkit_data.pretrained import build as build_tokenizer
from tests.bert.conftest import saved

OLD = "sentence_transformers.models"
NEW = "sentence_transformers.sentence_transformer.modules"
WORDS = "where is my card please refund the money".split()


def written(top: Path, first: str = "", *, pooling=None, beside=(), limits=None, **own) -> Path:
    """A folder with a tiny BERT, its tokenizer, and modules after it."""
    inner = saved(top / first if first else top, "bert", head=None, **own)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (inner / "vocab.txt").write_text("\n".join(tokens) + "\n")
    if limits is not None:
        (inner / "sentence_bert_config.json").write_text(json.dumps(limits))
    modules = [{"type": f"{OLD}.Transformer", "path": first}]
    if pooling is not None:
        modules.append({"type": f"{NEW}.pooling.Pooling", "path": "1_Pooling"})
        (top / "1_Pooling").mkdir()
        (top / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    modules += [{"type": f"{OLD}.{name}", "path": f"9_{name}"} for name in beside]
    listed = [{"idx": at, "name": str(at), **each} for at, each in enumerate(modules)]
    (top / "modules.json").write_text(json.dumps(listed))
    return top


def resolved(folder: Path, **given):
    return resolve(BertOptions(pretrained=str(folder), **given))


def remarks(folder: Path, **given) -> list[str]:
    found = check(resolved(folder, **given).options)
    assert {(each.key, each.severity) for each in found} <= {("model.pretrained", "warning")}
    return [str(each) for each in found]


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}, "cls"),
        ({"pooling_mode": ["cls"]}, "cls"),
        ({"pooling_mode": "mean", "pooling_mode_cls_token": True}, "mean"),
        ({"word_embedding_dimension": 32}, "mean"),
    ],
)
def test_its_pooling_is_taken_where_none_is_chosen(tmp_path, said, pooling):
    folder = written(tmp_path / "model", pooling=said)
    assert resolved(folder).options.pooling == pooling
    for mine in ("mean", "cls"):
        assert resolved(folder, pooling=mine).options.pooling == mine
    assert remarks(folder) == []


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}, "max|cls"),
        ({"pooling_mode": ["mean", "max"]}, "mean+max"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
    ],
)
def test_another_pooling_is_named_with_what_is_taken(tmp_path, said, name):
    folder = written(tmp_path / "model", pooling=said)
    (mean,), (cls,) = remarks(folder), remarks(folder, pooling="cls")
    name = "cls+max" if name == "max|cls" else name
    assert (
        f"pools by {name}, which nlpkit does not; a text is what model.pooling says, mean" in mean
    )
    assert "model.pooling says, cls; choose between mean and cls there" in cls
    assert resolved(folder).options.pooling == "mean"


def test_modules_behind_are_named_in_one_line(tmp_path):
    behind = ("Dense", "Normalize")
    folder = written(tmp_path / "model", pooling={}, beside=behind, limits={"do_lower_case": True})
    (said,) = remarks(folder)
    assert "its encoder is taken, and left behind what it has beside: Dense, Normalize, " in said
    assert said.endswith("do_lower_case of sentence_bert_config.json")


@pytest.mark.parametrize(
    ("limits", "own", "longest"),
    [
        ({"max_seq_length": 16}, None, 16),
        ({"max_seq_length": 16}, 20, 16),
        ({"transformer_task": "feature-extraction"}, 20, 20),
        ({"max_seq_length": None}, None, 40),
        ({"max_seq_length": 512}, None, 40),
        (None, int(1e30), 40),
    ],
)
def test_its_longest_text_bounds_the_input(tmp_path, limits, own, longest):
    folder = written(tmp_path / "model", limits=limits, pooling={"pooling_mode": "cls"})
    if own is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": own}))
    first = resolved(folder)
    assert first.max_length == longest
    plain = json.loads(json.dumps(first.options.model_dump(mode="json")))
    shutil.rmtree(folder)
    assert resolve(BertOptions(**plain)) == first
    build(first.options, HeadSpec(size=3), Vocabulary(size=13, max_length=longest), weights=False)


def test_a_folder_of_transformers_is_bounded_by_its_positions_alone(tmp_path):
    folder = written(tmp_path / "model", limits={"max_seq_length": 16})
    (folder / "modules.json").unlink()
    assert resolved(folder).max_length == 40


@pytest.mark.parametrize("first", ["", "0_Transformer"])
def test_the_files_are_found_where_the_first_module_is(tmp_path, first):
    folder = written(tmp_path / "model", first, pooling={"pooling_mode": "cls"})
    (folder / "config_sentence_transformers.json").write_text("{}")
    if first:
        (folder / "config.json").write_text('{"__version__": "0.3.0"}')  # as it was once
    model = Pretrained(str(folder), "model.pretrained")
    assert model.folder == folder / first
    inner = {"config.json", "vocab.txt"}
    names = {f"{first}/{name}".lstrip("/") for name in inner}
    names |= {"modules.json", "1_Pooling/config.json"}
    names |= set() if first else {"config_sentence_transformers.json"}
    found = {str(path.relative_to(folder)) for path in model.read_files(weights=False)}
    assert names == found
    weights = {str(path.relative_to(folder)) for path in model.read_files(weights=True)} - found
    assert weights == {f"{first}/model.safetensors".lstrip("/")}
    tokenizer = build_tokenizer(PretrainedConfig(pretrained=str(folder)), None)
    assert tokenizer.encode("card").tokens == ["[CLS]", "card", "[SEP]"]
    options = resolved(folder).options
    vocabulary = Vocabulary(size=13, max_length=40)
    mine = build(options, HeadSpec(size=3), vocabulary, weights=True)
    again = build(
        BertOptions(pretrained=str(folder / first)), HeadSpec(size=3), vocabulary, weights=True
    )
    assert all(
        torch.equal(mine.bert.state_dict()[name], each)
        for name, each in again.bert.state_dict().items()
    )


def test_what_sentence_transformers_writes_is_read(tmp_path):
    """Its own embedding, with the head's pooling instead of its modules'."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    source = saved(tmp_path / "source", "bert", head=None)
    tokens = {each: at for at, each in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(source / "tokenizer.json"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (source / "tokenizer_config.json").write_text(json.dumps(special | kind))
    parts = [Transformer(str(source), max_seq_length=12), Pooling(32, "cls"), Normalize()]
    theirs = SentenceTransformer(modules=parts, device="cpu")
    theirs.save(str(tmp_path / "model"), create_model_card=False)
    resolution = resolved(tmp_path / "model")
    assert (resolution.options.pooling, resolution.max_length) == ("cls", 12)
    (said,) = remarks(tmp_path / "model")
    assert said.endswith("beside: Normalize")
    vocabulary = Vocabulary(size=len(tokens), max_length=12)
    mine = build(resolution.options, HeadSpec(size=3), vocabulary, weights=True).eval()
    ids = torch.tensor([tokenizer.encode("where is my card").ids])
    with torch.no_grad():
        hidden = mine.bert(input_ids=ids, attention_mask=ids * 0 + 1).last_hidden_state[0, 0]
    expected = theirs.encode(["where is my card"], convert_to_tensor=True)[0]
    torch.testing.assert_close(hidden / hidden.norm(), expected, atol=1e-5, rtol=1e-4)


def test_a_real_one(minilm):
    resolution = resolved(Path(minilm))
    assert (resolution.options.pooling, resolution.max_length) == ("mean", 256)
    (said,) = remarks(Path(minilm))
    assert said.endswith("left behind what it has beside: Normalize")


@pytest.mark.parametrize("kind", [f"{OLD}.StaticEmbedding", "mine.Transformer", f"{OLD}.CLIPModel"])
def test_one_that_begins_with_something_else_is_refused_by_name(tmp_path, kind):
    folder = written(tmp_path / "model")
    (folder / "modules.json").write_text(json.dumps([{"type": kind, "path": ""}]))
    with pytest.raises(ConfigError, match=f"begins with a module {kind}; name a model that begins"):
        resolved(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "does not list the modules of a model"),
        ("[]", "does not list the modules of a model"),
        ('{"a": 1}', "does not list the modules of a model"),
        ('[{"type": "a.Transformer"}]', "does not list the modules of a model .*'path'"),
        ('[{"type": "a.Transformer", "path": "../x"}]', "names a folder outside its own"),
        ('[{"type": "a.Transformer", "path": "/etc"}]', "names a folder outside its own"),
        ('[{"type": "a.Transformer", "path": "0_T"}]', "names the folder 0_T, which is not there"),
    ],
)
def test_a_list_of_modules_that_cannot_be_used_is_an_error(tmp_path, text, message):
    folder = written(tmp_path / "model")
    (folder / "modules.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"^model\.pretrained: .*modules\.json.*{message}"):
        resolved(folder)


@pytest.mark.parametrize("name", ["1_Pooling/config.json", "sentence_bert_config.json"])
def test_a_file_that_is_no_json_is_an_error(tmp_path, name):
    folder = written(tmp_path / "model", pooling={}, limits={})
    (folder / name).write_text("{")
    with pytest.raises(ConfigError, match=f"{name} is not JSON"):
        resolved(folder)


def test_it_is_checked_trained_and_needed_no_more(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [(f"where is my {word}", "card") for word in WORDS]
    rows += [(f"please refund the {word}", "money") for word in WORDS]
    lines = ["text,label", *(f"{text},{label}" for text, label in rows)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    settings = {
        "name": "st",
        "data": {"train": "rows.csv"},
        "model": {"name": "bert", "pretrained": "tiny"},
        "train": {"max_steps": 2, "batch_size": 4},
        "loader": {"workers": 0},
    }
    (tmp_path / "st.yaml").write_text(json.dumps(settings))
    said = {"pooling_mode": "cls"}
    limits = {"max_seq_length": 16}
    written(tmp_path / "tiny", "0_Transformer", pooling=said, limits=limits, beside=["Dense"])
    assert main(["check", "st.yaml"]) == 0
    shown = capsys.readouterr()
    assert "at most 16 tokens" in shown.out
    assert "left behind what it has beside: Dense" in " ".join(shown.err.split())
    assert main(["check", "st.yaml", "tokenizer.max_length=17"]) == 2
    assert "takes at most 16 tokens, not 17" in " ".join(capsys.readouterr().err.split())
    assert main(["train", "st.yaml"]) == 0, capsys.readouterr().err
    shutil.rmtree(tmp_path / "tiny")
    model = nlpkit.load("runs/st")
    assert model.bundle.model.options["pooling"] == "cls"
    assert model.predict(["where is my card"])[0].label in ("card", "money")
