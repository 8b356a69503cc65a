"""Unusual text: what docs/text.md says of every case is what the tokenizers do."""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

import nlpkit
from nlpkit.errors import DataError
from nlpkit_data.config import CharConfig, SubwordConfig
from nlpkit_data.tokenizers import bpe, char, wordpiece
from tests.docs.pages import REPOSITORY, blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE = REPOSITORY / "docs" / "text.md"
TEXTS = blocks(PAGE, "text")[0].text.splitlines()
KINDS = ("wordpiece", "bpe", "char")
VISIBLE = sorted({*range(33, 127), *range(161, 173), *range(174, 256)})
HIDDEN = [byte for byte in range(256) if byte not in VISIBLE]
BYTES = {chr(byte): byte for byte in VISIBLE}
BYTES |= {chr(256 + number): byte for number, byte in enumerate(HIDDEN)}
"""What byte each character of a token of bpe stands for (Radford et al. 2019)."""


def rows() -> list[tuple[str, str, list[str]]]:
    """Normal form, text and cells of every row of the page's tables."""
    found, normalize = [], "none"
    for line in PAGE.read_text("utf-8").splitlines():
        normalize = "nfkc" if line == "With `normalize: nfkc`:" else normalize
        text, *cells = [escaped(cell.strip()) for cell in line.strip("|").split("|")]
        if text.startswith("`") and len(cells) == len(KINDS):
            found.append((normalize, text.strip("`"), cells))
    return found


def escaped(text: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text)


@cache
def trained(kind: str, normalize: Any = "none") -> Tokenizer:
    if kind == "char":
        return char(CharConfig(normalize=normalize), TEXTS)
    build = wordpiece if kind == "wordpiece" else bpe
    return build(SubwordConfig(normalize=normalize), TEXTS)


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text, add_special_tokens=False).tokens


def shown(kind: str, found: list[str]) -> str:
    """Tokens as the page has them: pieces of characters come together in parentheses."""
    parts = found
    if kind == "bpe":
        parts = []
        pieces = (bytes(BYTES[character] for character in token) for token in found)
        for whole, group in groupby(pieces, key=is_whole):
            together = list(group)
            parts += [each.decode() for each in together] if whole else [joined(together)]
    return " ".join(part.replace(" ", "␣") for part in parts)


def joined(pieces: list[bytes]) -> str:
    return f"({b''.join(pieces).decode()})"


def is_whole(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("normalize", "text", "cells"), rows(), ids=[f"{row[0]} {row[1]!a}" for row in rows()]
)
def test_every_cell_of_the_page_is_what_the_tokenizer_does(
    kind: str, normalize: str, text: str, cells: list[str]
) -> None:
    assert shown(kind, tokens(trained(kind, normalize), text)) == cells[KINDS.index(kind)]


def test_the_page_has_every_case() -> None:
    texts = "".join(text for _, text, _ in rows())
    assert all(character in texts for character in "我i￥$Ａ。\u3000\u200b\ufeff𠮷😀É\u0301")
    assert {row[0] for row in rows()} == {"none", "nfkc"}


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    @pytest.mark.parametrize("space", ["\u3000", "\u00a0", " "])
    def test_every_space_is_a_space(self, kind: str, space: str) -> None:
        tokenizer = trained(kind)
        assert tokens(tokenizer, f"The{space}card") == tokens(tokenizer, "The card")

    @pytest.mark.parametrize("invisible", ["\u200b", "\ufeff", "\u2060", "\u00ad"])
    def test_what_cannot_be_seen_is_left_out(self, kind: str, invisible: str) -> None:
        tokenizer = trained(kind)
        text = f"{invisible}卡还{invisible}没到{invisible}"
        assert tokens(tokenizer, text) == tokens(tokenizer, "卡还没到")

    def test_marks_are_tokens_of_their_own(self, kind: str) -> None:
        found = [token.removeprefix("Ġ") for token in tokens(trained(kind), "card.card")]
        assert "." in found
        for mark in "，。！？（）":
            encoding = trained(kind).encode(f"card{mark}card", add_special_tokens=False)
            assert (4, 5) in encoding.offsets

    def test_an_accent_is_never_stripped(self, kind: str) -> None:
        tokenizer = trained(kind)
        assert tokens(tokenizer, "é") != tokens(tokenizer, "e")
        folds = kind != "char"
        assert (tokens(tokenizer, "É") == tokens(tokenizer, "é")) is folds

    def test_nfkc_makes_one_of_forms_of_a_character(self, kind: str) -> None:
        for form, plain in [("①", "1"), ("ﬁ", "fi"), ("ＡＢＣ！", "ABC!")]:
            folded = [tokens(trained(kind, "nfkc"), text) for text in (form, plain)]
            assert folded[0] == folded[1]
            assert tokens(trained(kind), form) != tokens(trained(kind), plain)

    def test_joined_emoji_come_apart_in_wordpiece_alone(self, kind: str) -> None:
        joined, apart = (tokens(trained(kind), text) for text in ("👍\u200d😀", "👍😀"))
        assert (joined == apart) is (kind == "wordpiece")

    def test_a_word_of_more_than_100_characters_is_unknown_to_wordpiece_alone(
        self, kind: str
    ) -> None:
        for length in (100, 101):
            unknown = tokens(trained(kind), "a" * length) == ["[UNK]"]
            assert unknown is (kind == "wordpiece" and length > 100)

    def test_it_trains_and_predicts(self, kind: str, tmp_path: Path) -> None:
        config = {
            "name": "text",
            "data": {"validation": None},
            "tokenizer": {"name": kind, "max_length": 24},
            "model": {"name": "transformer", "layers": 1, "hidden": 8, "heads": 2},
            "train": {"max_steps": 2},
            "loader": {"workers": 0},
            "observers": [],
            "device": "cpu",
        }
        train = [{"text": text, "label": "ab"[place % 2]} for place, text in enumerate(TEXTS)]
        run = nlpkit.train(config, data={"train": train}, out=tmp_path / "run")
        model = nlpkit.load(run.path, device="cpu")
        texts = [text for _, text, _ in rows()] + ["a" * 101, "\ufffd", "龘" * 500]
        assert {prediction.label for prediction in model.predict(texts)} <= {"a", "b"}
        for empty in ("\u3000", "\u200b", "\ufeff \u200b\n"):
            with pytest.raises(DataError, match="text 1: .*the text is empty"):
                model.predict(["card", empty])


@pytest.mark.parametrize("text", ["\u200b", "\ufeff", "\u3000", " \u200b\u3000\ufeff", ""])
def test_a_text_of_which_nothing_is_seen_is_a_bad_row(text: str, tmp_path: Path) -> None:
    lines = ["text,label", "卡,a", "还,b", f'"{text}",a']
    (tmp_path / "train.csv").write_text("\n".join(lines), "utf-8")
    data = {"train": str(tmp_path / "train.csv"), "validation": None}
    found = nlpkit.check({"name": "x", "model": "transformer", "device": "cpu", "data": data})
    errors = [str(problem) for problem in found if problem.severity == "error"]
    assert len(errors) == 1
    assert 'train.csv:4: column "text": the text is empty' in errors[0]


def test_wordpiece_cuts_at_the_dollar_and_not_at_other_signs_of_money() -> None:
    splitter = pre_tokenizers.BertPreTokenizer()
    for sign in "￥¥€$":
        words = [word for word, _ in splitter.pre_tokenize_str(f"{sign}100")]
        assert words == (["$", "100"] if sign == "$" else [f"{sign}100"])
