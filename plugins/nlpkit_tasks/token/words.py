"""Words of a text, by one rule whatever the tokenizer, and the tokens that stand for them.

A word's token is the first one that begins in it. Where none does, since a token covers several
words, it is the one that covers it; and some words have none: the tokenizer drops them.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Regex, pre_tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Encoding

_LETTER = r"(?![\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}])[\p{L}\p{N}]"
_RUN = rf"{_LETTER}(?:\p{{Cf}}*(?:{_LETTER}|\p{{M}}))*"
_SIGN = r"[^\s\p{Cc}\p{Cf}]\p{M}*"
_WORDS = pre_tokenizers.Split(Regex(f"{_RUN}|{_SIGN}"), "removed", invert=True)


@dataclass(frozen=True)
class Words:
    """A text and its words.

    Attributes:
        text: The text.
        places: Where each word starts and ends in it, in characters.
        given: Whether words were given, of which the text was made.
    """

    text: str
    places: Sequence[tuple[int, int]]
    given: bool


def found(text: str) -> Words:
    """Runs of letters and digits with their marks, and every other sign alone.

    Han, kana and Thai characters are alone too. What cannot be seen, such as a zero-width joiner,
    belongs to the run in which it stands, and is no word elsewhere.
    """
    places = [place for _, place in _WORDS.pre_tokenize_str(text)]
    return Words(text, places, given=False)


def joined(words: Sequence[str]) -> Words:
    """Given words as a text, with a blank between each two."""
    places, start = [], 0
    for word in words:
        places.append((start, start + len(word)))
        start += len(word) + 1
    return Words(" ".join(words), places, given=True)


def tokens_of(
    words: Words, windows: Sequence[Encoding], overlap: int
) -> tuple[np.ndarray, np.ndarray]:
    """The token of each word, in the one window where it stands deepest.

    That is the one where it is farthest from the nearer end; of equal ones the earlier.

    Args:
        words: The words.
        windows: The tokens of their text, by window.
        overlap: Tokens that a window shares with the one before.

    Returns:
        The number of the window, and of the token in it, int32 [words]; -1 where there is none.
    """
    offsets = [_own(window) for window in windows]
    step = max(1, len(offsets[0]) - overlap)  # all windows but the last are as long as the first
    every = [*chain.from_iterable(each[:step] for each in offsets[:-1]), *offsets[-1]]
    # one more than there are, at the place -1: of the words without a token
    depth, window, token = (np.full(len(every) + 1, -1, np.int32) for _ in range(3))
    for number, each in enumerate(offsets):
        inside = np.arange(len(each), dtype=np.int32)
        depths = np.minimum(inside, inside[::-1])
        own = slice(number * step, number * step + len(each))
        deeper = depths > depth[own]
        depth[own][deeper], window[own][deeper] = depths[deeper], number
        token[own][deeper] = inside[deeper] + _before(windows[0])
    places = _first_tokens(words, every)
    return window[places], token[places]


def _own(encoding: Encoding) -> list[tuple[int, int]]:
    """The offsets of the text's tokens, without those that the tokenizer puts round it."""
    mask = encoding.special_tokens_mask
    return [place for place, special in zip(encoding.offsets, mask, strict=True) if not special]


def _before(encoding: Encoding) -> int:
    """How many tokens the tokenizer puts before the text."""
    mask = encoding.special_tokens_mask
    return mask.index(0) if 0 in mask else 0


def _first_tokens(words: Words, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """For each word the number of its token; -1 for none."""
    text, places = words.text, words.places
    ends = [end for _, end in places]
    begins, covers = [-1] * len(places), [-1] * len(places)
    for number, (start, end) in enumerate(offsets):
        while start < end and text[start].isspace():  # which a byte-level token begins with
            start += 1
        word = first = bisect_right(ends, start)
        while start < end and word < len(places) and places[word][0] < end:
            kind = begins if word == first else covers
            if kind[word] < 0 and text[slice(*places[word])].strip():
                kind[word] = number
            word += 1
    return [begin if begin >= 0 else cover for begin, cover in zip(begins, covers, strict=True)]
