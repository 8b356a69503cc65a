"""How long texts are in tokens, and what of them a vocabulary lacks; memory does not grow."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import islice
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenizers import Encoding, Tokenizer

    from nlpkit.contracts import TextInput

_WORDS = 10_000  # different unknown words that are counted; later ones are not
_LONGEST = 100  # characters that are kept of one


class TokenCounts:
    """Adds up what a tokenizer that does not truncate makes of texts.

    Attributes:
        lengths: By part how many texts have so many tokens.
        tokens: All tokens but the special ones.
        unknown: How many of these are unknown.
        words: What the unknown ones stand for, and how often.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.lengths = defaultdict[str, Counter[int]](Counter)
        self.words: Counter[str] = Counter()
        self.tokens, self.unknown = 0, 0
        self._tokenizer, self._id = tokenizer, unknown_id(tokenizer)
        self._special = [tokenizer.num_special_tokens_to_add(pair) for pair in (False, True)]

    def add(self, part: str, text: TextInput, encoding: Encoding, special: int) -> tuple[int, int]:
        """Counts a text with so many special tokens; its length, and how many are unknown."""
        ids = encoding.ids
        unknown = ids.count(self._id) if self._id is not None else 0
        self.lengths[part][len(ids)] += 1
        self.tokens += len(ids) - special
        self.unknown += unknown
        if unknown:
            for word in self._words(text, encoding):
                if len(self.words) < _WORDS or word in self.words:
                    self.words[word] += 1
        return len(ids), unknown

    def percentile(self, part: str, percent: float) -> int:
        """The least length that so many percent of the texts of a part do not exceed."""
        lengths = self.lengths[part]
        missing, total = lengths.total() * percent / 100, 0
        for length in sorted(lengths):
            total += lengths[length]
            if total >= missing:
                return length
        return 0

    def special(self, text: TextInput) -> int:
        """How many special tokens a text is given, where it is given any."""
        return self._special[isinstance(text, tuple)]

    def commonest(self, number: int) -> list[str]:
        """The commonest characters that are unknown by themselves; else the commonest words."""
        characters: Counter[str] = Counter()
        for word, count in self.words.items():
            for character in word:
                characters[character] += count
        lacking = (character for character, _ in characters.most_common() if self._lacks(character))
        return list(islice(lacking, number)) or [word for word, _ in self.words.most_common(number)]

    def _words(self, text: TextInput, encoding: Encoding) -> Iterator[str]:
        offsets = encoding.offsets  # each look at them makes the whole list
        for place, token in enumerate(encoding.ids):
            if token == self._id:
                start, end = offsets[place]
                if isinstance(text, list):
                    whole = text[encoding.token_to_word(place) or 0]
                else:
                    parts = (text,) if isinstance(text, str) else text
                    whole = parts[encoding.token_to_sequence(place) or 0]
                yield whole[start : min(end, start + _LONGEST)]

    def _lacks(self, character: str) -> bool:
        return self._id in self._tokenizer.encode(character, add_special_tokens=False).ids


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id of what the vocabulary lacks; None where it lacks nothing."""
    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")
    return model.get("unk_id") if token is None else tokenizer.token_to_id(token)


def lacks_capitals(tokenizer: Tokenizer) -> bool:
    """Whether the vocabulary has small Latin letters alone, and the tokenizer keeps case."""
    normalizer = tokenizer.normalizer
    if normalizer is not None and normalizer.normalize_str("A") != "A":
        return False
    letters = {
        letter
        for token in tokenizer.get_vocab(with_added_tokens=False)
        if token[:1] not in ("[", "<")  # [UNK] and <unk> are no words
        for letter in token
    }
    return not letters.isdisjoint(ascii_lowercase) and letters.isdisjoint(ascii_uppercase)
