"""Long texts, tokenized in parts, to the tokens of the whole: memory holds those of some parts.

A part is tokenized with some text before and behind it, and of the tokens those are kept that begin
in the part itself. They are those of the whole text wherever a tokenizer looks no further than that
at a place: it divides a text into words, signs or characters first, as all do that have a
pre-tokenizer. A longer run that it does not divide is the exception.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from nlpkit.contracts import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenizers import Tokenizer

LONGEST = 100_000_000
"""Characters of a text that is tokenized in parts, at most; it is in memory as a whole."""

LONG = 1 << 19
"""Characters from which a text is tokenized in parts; a token takes a hundred bytes meanwhile."""

_SIZE = LONG // 4  # of a part; four are tokenized together
_AROUND = 1 << 12  # characters before and behind it


@dataclass(frozen=True)
class LongText:
    """What stands for a `tokenizers.Encoding` of a long text, in 12 bytes a token.

    Attributes:
        ids: The ids of the tokens.
        offsets: Where each starts and ends in the text, int32 [tokens, 2].
    """

    ids: array[int]
    offsets: np.ndarray

    overflowing = ()

    def token_to_sequence(self, _: int) -> int:
        """All are of the first text: there is one."""
        return 0


def tokens_of(
    tokenizer: Tokenizer, text: str, *, size: int = _SIZE, around: int = _AROUND
) -> LongText:
    """The tokens of a text, without special ones."""
    ids, offsets = array("i"), list[np.ndarray]()
    starts = iter(range(0, len(text), size))
    while some := list(islice(starts, LONG // _SIZE)):
        before = [max(0, start - around) for start in some]
        parts = [text[at : start + size + around] for at, start in zip(before, some, strict=True)]
        found = tokenizer.encode_batch(parts, add_special_tokens=False)
        for start, at, encoding in zip(some, before, found, strict=True):
            places = np.array(encoding.offsets, np.int32).reshape(-1, 2) + np.int32(at)
            own = (start <= places[:, 0]) & (places[:, 0] < start + size)
            ids.frombytes(np.array(encoding.ids, np.int32)[own].tobytes())
            offsets.append(places[own])
    return LongText(ids, np.concatenate(offsets))


def parted(text: str) -> Iterator[str]:
    """A text as a tokenizer's training has room for it: where it is longer than those of any task,
    in parts, cut before blanks if it has some."""
    size, start = LONG if len(text) > Task.longest else len(text), 0
    while len(text) - start > size:
        blank = text.rfind(" ", start + size // 2, start + size)
        end = blank if blank > 0 else start + size
        yield text[start:end]
        start = end
    yield text[start:]
