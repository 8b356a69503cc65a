"""Which tokens are hidden: by coins that are hashes of a sample's seed, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nlpkit.data.plan import hashes
from nlpkit_tasks.token.words import found

if TYPE_CHECKING:
    from nlpkit.contracts import Example, Vocabulary

_CHOICE, _KIND, _TOKEN = 11, 12, 13  # streams of one sample
_MASKED, _RANDOM = 0.8, 0.9  # up to where a coin gives the mask, and another token
_PART = 1 << 20  # characters of which words are looked for together


class Hidden(NamedTuple):
    """A row with what is hidden in it.

    Attributes:
        ids: Its tokens, as the model sees them.
        places: Where tokens are to be told.
    """

    ids: np.ndarray
    places: np.ndarray


class Masking:
    """Hides tokens (Devlin et al. 2019, section 3.1): each by its own coin, or by its word's.

    Of those 80 % become the mask, 10 % a random token that is not special, 10 % stay.

    Args:
        share: Of the tokens that are to be told.
        vocabulary: Has a mask.
    """

    def __init__(self, share: float, vocabulary: Vocabulary) -> None:
        self._share, self._special = share, vocabulary.special
        known = np.setdiff1d(np.arange(vocabulary.size), [*self._special.values()])
        self.known = known
        """The ids that are not special."""
        self._vocabulary = vocabulary

    @property
    def knows_words(self) -> bool:
        """Whether a token may be more than a character."""
        return any(len(self._vocabulary.token(id)) > 1 for id in self.known.tolist())

    def __call__(self, example: Example, seed: int) -> Hidden:
        """Hides tokens of an example: `input_ids`, and with `words` those of a word together."""
        ids, numbers = example["input_ids"], np.arange(len(example["input_ids"]))
        frame = [self._special[role] for role in ("cls", "sep") if role in self._special]
        coins = _coins(example.get("words", numbers), seed, _CHOICE)
        places = np.flatnonzero((coins < self._share) & ~np.isin(ids, frame))
        kinds, others = _coins(places, seed, _KIND), hashes(places, seed, _TOKEN)
        random = self.known[(others % np.uint64(len(self.known))).astype(np.int64)]
        kept = np.where(kinds < _RANDOM, random, ids[places])
        changed = ids.copy()
        changed[places] = np.where(kinds < _MASKED, self._special["mask"], kept)
        return Hidden(changed, places)


def _coins(numbers: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """A number from 0 to below 1 for each, float64."""
    return (hashes(numbers, seed, stream) >> np.uint64(11)) * 2.0**-53


def words_of(text: str, offsets: np.ndarray) -> np.ndarray:
    """The number of each token's word, int32 [tokens]; what is of no word has one of its own.

    Args:
        text: The text.
        offsets: Where each token starts and ends in it, [tokens, 2].
    """
    parts = range(0, len(text), _PART)
    places = [np.array(found(text[at : at + _PART]).places).reshape(-1, 2) + at for at in parts]
    starts, ends = np.concatenate(places).T
    words = np.searchsorted(ends, offsets[:, 0], side="right")
    inside = np.append(starts, len(text))[words] < offsets[:, 1]
    return np.where(inside, words, len(starts) + np.arange(len(offsets))).astype(np.int32)
