from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer

from nlpkit_data.config import CharConfig, SubwordConfig
from nlpkit_data.tokenizers import SPECIAL, bpe, char, wordpiece

if TYPE_CHECKING:
    from nlpkit.contracts import TextInput

CHINESE = Path(__file__).parents[1] / "data" / "chinese.csv"
TEXTS: list[TextInput] = [
    "Where is my card?",
    ("My card HAS NOT arrived.", "Café and naïve"),
    ["The", "card", "never", "arrived"],
    "我的卡还没到",
]

TRAIN = """
import csv, sys
from nlpkit_data.config import CharConfig, SubwordConfig
from nlpkit_data.tokenizers import bpe, char, wordpiece
for path in sys.argv[1:]:
    with open(path, encoding="utf-8", newline="") as file:
        texts = [row[0] for row in csv.reader(file)]
    for build, options in (
        (wordpiece, SubwordConfig(vocab_size=1500)),
        (bpe, SubwordConfig(vocab_size=1500)),
        (char, CharConfig()),
    ):
        print(build(options, texts).to_str())
"""


def test_the_same_rows_give_the_same_tokenizers_in_every_process() -> None:
    sample = CHINESE.parents[2] / "plugins" / "nlpkit_data" / "sample" / "train.csv"
    command = [sys.executable, "-c", TRAIN, str(CHINESE), str(sample)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(5)]
    found = [process.communicate()[0].splitlines() for process in processes]
    assert [len(lines) for lines in found] == [6] * 5
    for tokenizers in zip(*found, strict=True):
        assert len(set(tokenizers)) == 1


@pytest.mark.parametrize(
    "tokenizer",
    [
        wordpiece(SubwordConfig(), TEXTS),
        bpe(SubwordConfig(), TEXTS),
        char(CharConfig(lowercase=True), TEXTS),
    ],
    ids=["wordpiece", "bpe", "char"],
)
class TestTrained:
    def test_special_tokens_come_first(self, tokenizer: Tokenizer) -> None:
        assert [tokenizer.id_to_token(index) for index in range(5)] == list(SPECIAL)
        ids = sorted(tokenizer.get_vocab().values())
        assert ids == list(range(len(ids)))

    def test_texts_and_pairs_look_as_bert_has_them(self, tokenizer: Tokenizer) -> None:
        single, pair = tokenizer.encode("card"), tokenizer.encode("card", "card")
        assert (single.tokens[0], single.tokens[-1]) == ("[CLS]", "[SEP]")
        assert pair.ids == single.ids + single.ids[1:]
        assert pair.type_ids == [0] * len(single) + [1] * (len(single) - 1)

    def test_what_was_seen_is_known_and_keeps_its_accents(self, tokenizer: Tokenizer) -> None:
        ids = tokenizer.encode("café 卡 naïve").ids
        assert tokenizer.token_to_id("[UNK]") not in ids
        assert ids != tokenizer.encode("cafe 卡 naive").ids
        assert "é" in tokenizer.decode(ids)

    def test_capitals_are_folded_on_request(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.encode("CARD").ids == tokenizer.encode("card").ids

    def test_it_is_whole_in_its_file(self, tokenizer: Tokenizer) -> None:
        read = Tokenizer.from_str(tokenizer.to_str())
        text = "Where is my card? 卡"
        assert read.encode(text).ids == tokenizer.encode(text).ids


def test_wordpiece_marks_what_does_not_begin_a_word() -> None:
    tokenizer = wordpiece(SubwordConfig(vocab_size=60), ["low lower lowest"] * 9 + ["new newer"])
    tokens = tokenizer.encode("lowest newest").tokens[1:-1]
    assert "".join(tokens).replace("##", "") == "lowestnewest"
    assert tokens[0] == "lowest"


@pytest.mark.parametrize("build", [wordpiece, bpe])
def test_a_word_of_any_length_is_trained_on_in_time(build: Any) -> None:
    characters = random.Random(1).choices("abcdefghijklmnopq", k=300_000)
    begun = time.perf_counter()
    tokenizer = build(SubwordConfig(vocab_size=4000), ["low lower", "".join(characters) + "z"])
    assert time.perf_counter() - begun < 10  # seconds; a quadratic one takes 30
    assert tokenizer.token_to_id("[UNK]") not in tokenizer.encode("lazz").ids


def test_bpe_learns_from_text_without_spaces() -> None:
    tokenizer = bpe(SubwordConfig(vocab_size=400), ["我的卡还没到" * 50])
    assert len(tokenizer.encode("我的卡还没到").ids) < 6


def test_a_vocabulary_is_as_large_as_asked() -> None:
    texts = [f"word{number} and other{number * 7}" for number in range(500)]
    assert wordpiece(SubwordConfig(vocab_size=300), texts).get_vocab_size() == 300
    assert bpe(SubwordConfig(vocab_size=300), texts).get_vocab_size() == 300


def test_bpe_knows_every_text() -> None:
    tokenizer = bpe(SubwordConfig(vocab_size=300, lowercase=False), ["plain"])
    text = "Ünïcödé 卡 😀"
    ids = tokenizer.encode(text).ids
    assert tokenizer.token_to_id("[UNK]") not in ids
    assert tokenizer.decode(ids).strip() == text


def test_char_gives_a_token_for_each_character_and_one_for_a_run_of_spaces() -> None:
    tokenizer = char(CharConfig(), ["a b 我的卡"])
    tokens = tokenizer.encode("  我的 \t\n a卡x ").tokens
    assert tokens == ["[CLS]", "我", "的", " ", "a", "卡", "[UNK]", "[SEP]"]


def test_nfkc_folds_full_width_characters() -> None:
    assert char(CharConfig(normalize="nfkc"), ["ＡＢ"]).encode("A").tokens[1] == "A"
    assert char(CharConfig(), ["ＡＢ"]).encode("A").tokens[1] == "[UNK]"
