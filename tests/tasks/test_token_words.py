"""Words of a text, and the tokens that stand for them, whatever the tokenizer."""

from __future__ import annotations

import pytest

from nlpkit.contracts import Part, Windows
from nlpkit.data.encode import fitted
from nlpkit_tasks.token.words import found, joined, tokens_of
from tests.tasks.tokens import KINDS, TEXTS, tokenizer


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in found(text).places]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("I'm @paul_x at 3.14", ["I", "'", "m", "@", "paul", "_", "x", "at", "3", ".", "14"]),
        ("我住in北京, ok", ["我", "住", "in", "北", "京", ",", "ok"]),
        ("カタひら 한국어", ["カ", "タ", "ひ", "ら", "한국어"]),
        ("น้ำ cafe\u0301 क\u094d\u200dष", ["น้", "ำ", "cafe\u0301", "क\u094d\u200dष"]),
        ("❤\ufe0f👍🏽 𠮷", ["❤\ufe0f", "👍", "🏽", "𠮷"]),
        ("ca\u200brd \u200b a\x07b", ["ca\u200brd", "a", "b"]),
        (" \u3000\u00a0\n", []),
    ],
)
def test_words_are_runs_of_letters_and_signs_alone(text, wanted):
    assert words(text) == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_words_token_begins_in_it_whatever_the_tokenizer(kind, text):
    encoding, own = tokenizer(kind).encode(text), found(text)
    windows, tokens = tokens_of(own, [encoding], 0)
    assert not windows.any()
    for (start, end), token in zip(own.places, tokens.tolist(), strict=True):
        begin, stop = encoding.offsets[token]
        blanks = len(text[begin:stop]) - len(text[begin:stop].lstrip())
        assert start <= begin + blanks < end or begin + blanks < start < stop
        before = encoding.offsets[token - 1] if token else (0, 0)
        assert before[1] <= start or before[0] < start  # no earlier one begins in the word


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_are_given_have_the_tokens_of_their_text(kind):
    text = "Peter rejects German lamb"
    given = joined(text.split())
    assert given.text == text
    (_, tokens), (_, others) = (
        tokens_of(each, [tokenizer(kind).encode(text)], 0) for each in (given, found(text))
    )
    assert tokens.tolist() == others.tolist()
    assert len({*tokens.tolist()}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_nothing_have_no_token(kind):
    given = joined(["EU", "", "  ", "\u00a0", "lamb"])
    _, tokens = tokens_of(given, [tokenizer(kind).encode(given.text)], 0)
    assert (tokens < 0).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "char"])
def test_a_word_without_width_has_no_token(kind):
    given = joined(["EU", "\u200b", "\ufeff\u2060", "lamb"])
    _, tokens = tokens_of(given, [tokenizer(kind).encode(given.text)], 0)
    assert (tokens < 0).tolist() == [False, True, True, False]


def test_a_token_that_covers_words_stands_for_each():
    own = found("上海 EU")
    encoding = tokenizer("wordpiece").encode(own.text)
    merged = [*encoding.offsets]
    assert merged[1:3] == [(0, 1), (1, 2)]

    class Merged:
        ids, special_tokens_mask = [0, 1, 2, 3], [1, 0, 0, 1]
        offsets = ((0, 0), (0, 2), (2, 5), (0, 0))

    assert tokens_of(own, [Merged()], 0)[1].tolist() == [1, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [9, 16, 33])
def test_a_word_stands_where_it_is_deepest(kind, length):
    text = " ".join(TEXTS * 3)
    own, whole = found(text), tokenizer(kind)
    shared = length // 4
    cut = fitted(whole, Part(long=Windows(most=None, overlap=shared)), length)
    encoding = cut.encode(text)
    windows = [encoding, *encoding.overflowing]
    uncut = fitted(whole, None, length).encode(text)
    _, alone = tokens_of(own, [uncut], 0)
    window, token = tokens_of(own, windows, shared)
    special = sum(encoding.special_tokens_mask)
    before = special // 2
    step = length - special - shared
    for word, place in enumerate(alone.tolist()):
        number = place - before  # of the token in the text
        depths = {
            at: min(number - at * step, len(each.ids) - special - 1 - (number - at * step))
            for at, each in enumerate(windows)
            if 0 <= number - at * step < len(each.ids) - special
        }
        deepest = min(depths, key=lambda at: (-depths[at], at))
        assert (window[word], token[word]) == (deepest, number - deepest * step + before)
        chosen = windows[window[word]]
        assert chosen.ids[token[word]] == uncut.ids[place]
        assert chosen.offsets[token[word]] == uncut.offsets[place]
    assert len({*window.tolist()}) > 3
