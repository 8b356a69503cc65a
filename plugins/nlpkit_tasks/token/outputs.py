"""From logits of tokens to tags of words."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nlpkit.contracts import Batch


def chosen(logits: np.ndarray, batch: Batch) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each sample the ids of its words' tags and their probabilities, each [words].

    The likeliest tag of a word's token. A token that stands for several words gives all of them its
    tag; the entity that it begins they go on with. A word without a token is O.

    Args:
        logits: [rows, tokens, tags].
        batch: Knows by `about` where the token of each word stands.
    """
    windows, tokens = batch.about["window"], batch.about["token"]
    counts = np.ones(len(windows), np.int64) if batch.rows is None else np.asarray(batch.rows)
    sizes = [len(each) for each in windows]
    first = np.repeat(np.cumsum(counts) - counts, sizes)
    row, token = first + np.concatenate(windows), np.concatenate(tokens)
    known = token >= 0
    found = np.zeros((len(token), logits.shape[-1]))
    found[known] = logits[row[known], token[known]]
    tags = found.argmax(axis=-1)
    powers = np.exp(found - found.max(axis=-1, keepdims=True))
    scores = 1 / powers.sum(axis=-1)
    tags += shared(row, token) & (tags % 2 == 1)  # B has an odd id, and I is the next
    ends = np.cumsum([0, *sizes])
    return [(tags[start:end], scores[start:end]) for start, end in pairwise(ends)]


def shared(row: np.ndarray, token: np.ndarray) -> np.ndarray:
    """Which words have the token of the word before, bool [words]; -1 is none."""
    found = np.zeros(len(token), bool)
    found[1:] = (token[1:] >= 0) & (token[1:] == token[:-1]) & (row[1:] == row[:-1])
    return found
