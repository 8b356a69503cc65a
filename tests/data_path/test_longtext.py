"""Long texts are tokenized in parts, to the tokens of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from nlpkit.contracts import Row
from nlpkit.data import encode, longtext
from nlpkit.data.longtext import LONG, LongText, parted, tokens_of
from nlpkit.data.rows import texts_of
from nlpkit.errors import DataError
from nlpkit_data.config import CharConfig, SubwordConfig
from nlpkit_data.tokenizers import bpe, char, wordpiece
from nlpkit_tasks.clm.config import ClmConfig
from nlpkit_tasks.clm.task import ClmTask
from nlpkit_tasks.mlm.config import MlmConfig
from tests.tasks import tokens
from tests.tasks.language import encoder_of, rows_of, samples

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECES = [
    "the cat",
    " sat  on ",
    "\n\n",
    "naïve 😀👍🏽 ",
    "我住在北京市，他在上海。",
    " ",
    "x" * 30,
    "\t",
]


def text_of(length: int, seed: int = 3) -> str:
    generator = np.random.default_rng(seed)
    return "".join(generator.choice(PIECES, length))


def _tokenizers() -> dict[str, Tokenizer]:
    texts = [text_of(50), "the cat sat"]
    return {
        "bpe": bpe(SubwordConfig(vocab_size=400), texts),
        "cased bpe": bpe(SubwordConfig(vocab_size=400, lowercase=False), texts),
        "wordpiece": wordpiece(SubwordConfig(vocab_size=150), texts),
        "char": char(CharConfig(), texts),
        "char kept": char(CharConfig(whitespace="keep"), texts),
        "char nfkc": char(CharConfig(normalize="nfkc"), texts),
        "unigram": tokens.tokenizer("unigram"),
    }


TOKENIZERS = _tokenizers()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_tokens_of_parts_are_those_of_the_whole(kind: str) -> None:
    text, tokenizer = text_of(400), TOKENIZERS[kind]
    whole = tokenizer.encode(text, add_special_tokens=False)
    for size in (100, 333, 1000, len(text) - 1, len(text), 9999):
        found = tokens_of(tokenizer, text, size=size, around=128)
        assert found.ids.tolist() == whole.ids
        assert found.offsets.tolist() == [list(place) for place in whole.offsets]


def test_a_run_that_no_tokenizer_divides_is_the_exception() -> None:
    """It is said so; what is lost is the border, never text."""
    tokenizer, text = TOKENIZERS["cased bpe"], "the" * 300
    found = tokens_of(tokenizer, text, size=100, around=8)
    assert tokenizer.decode(found.ids.tolist()).replace(" ", "") == text


@pytest.mark.parametrize("options", [ClmConfig(), MlmConfig(whole_words=True)])
def test_a_long_text_gives_the_samples_of_a_short_one(
    options: ClmConfig | MlmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of([text_of(60), "the cat", text_of(40)])
    expected = samples(encoder_of(options, 24), rows, "train")
    monkeypatch.setattr(encode, "LONG", 50)
    monkeypatch.setattr(longtext.tokens_of, "__kwdefaults__", {"size": 100, "around": 64})
    seen = [each.encodings["text"] for each in encoder_of(options, 24).encoded(rows, "train")]
    assert [isinstance(each, LongText) for each in seen] == [True, False, True]
    found = samples(encoder_of(options, 24), rows, "train")
    assert len(found) == len(expected)
    for (one, here), (other, there) in zip(found, expected, strict=True):
        assert here == there
        assert all(np.array_equal(one[name], other[name]) for name in other)


def test_it_is_the_same_at_the_real_size() -> None:
    tokenizer, text = TOKENIZERS["cased bpe"], text_of(16_000)
    assert len(text) > LONG // 4  # there are two parts
    found = tokens_of(tokenizer, text)
    assert found.ids.tolist() == tokenizer.encode(text, add_special_tokens=False).ids


def test_tokenizers_are_trained_on_parts_of_what_is_longer_than_any_row() -> None:
    for text in ("a " * 1_500_000, "a" * 3_000_000, "short", ""):
        parts = [*parted(text)]
        assert "".join(parts) == text
        assert max(map(len, parts)) <= max(LONG, len("short"))
    assert [*parted("a " * 900_000)] == ["a " * 900_000]  # as other tasks have it
    assert all(part.startswith(" ") for part in [*parted("ab " * 900_000)][1:])


def test_a_language_model_takes_longer_texts_than_others_but_not_to_go_on_from() -> None:
    task, row = ClmTask(ClmConfig()), Row({"text": "ab " * 1_000_000}, "a.txt:1")
    assert texts_of(task, row, targets=True)
    with pytest.raises(DataError, match="the text has 3,000,000 characters"):
        texts_of(task, row, targets=False)
