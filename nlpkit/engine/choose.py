"""Chooses the token that follows, by the logits of one row; numpy only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nlpkit.data.plan import hashes
from nlpkit.errors import NonFiniteError

if TYPE_CHECKING:
    from nlpkit.engine.settings import Settings

_TOGETHER = 8_192
"""Ids that are hashed at a time: what is made on the way stays in the cache, twice as fast."""

_SLACK = 1e-3
"""More than float32 can be wrong by in the scores and bounds below, which are under 50."""


def log_sums(logits: np.ndarray) -> list[float]:
    """log Σ exp(logits) of each row, [rows, width]: a logit minus this is a log-probability.

    Exponentials are of float32, which takes a tenth of the time, and are added up in float64.

    Raises:
        NonFiniteError: The logits are no numbers.
    """
    tops = numbers(logits.max(axis=1))
    sums = [np.exp(row - top).sum(dtype=np.float64) for row, top in zip(logits, tops, strict=True)]
    return [float(top) + math.log(total) for top, total in zip(tops, sums, strict=True)]


def numbers(tops: np.ndarray) -> np.ndarray:
    """The largest logits of rows, [rows], as they are.

    Raises:
        NonFiniteError: They are no numbers.
    """
    wrong = tops[~np.isfinite(tops)]
    if wrong.size:
        raise NonFiniteError(
            f"the model gave logits that are no numbers (the largest of a row is {wrong[0]}): its "
            "weights are damaged, or its precision is too low; try precision fp32"
        )
    return tops


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """The places of the largest scores, [count or fewer], rising; of equal scores the first."""
    if count >= len(scores):
        return np.arange(len(scores))
    least = np.partition(scores, -count)[-count]
    found = np.flatnonzero(scores >= least)
    equal = np.flatnonzero(scores[found] == least)
    return np.delete(found, equal[len(equal) - (len(found) - count) :])


def kept(logits: np.ndarray, settings: Settings) -> np.ndarray:
    """The ids that `top_k`, and then `top_p`, leave of a row of logits; rising.

    Temperature comes first. Exponentials and sums are of float32 and float64, as in `log_sums`.
    """
    ids = best(logits, settings.top_k or len(logits))
    if settings.top_p is None:
        return ids
    shares = np.exp((logits[ids] - logits.max()) / settings.temperature)
    sums = np.cumsum(np.sort(shares)[::-1], dtype=np.float64)
    count = int(np.searchsorted(sums, settings.top_p * sums[-1])) + 1
    return np.take(ids, best(shares, count))


@np.errstate(over="ignore")  # a logit that masks may be the lowest number that there is
def drawn(logits: np.ndarray, settings: Settings, seed: int, place: int) -> int:
    """An id, drawn from the softmax of logits ÷ temperature over the ids that filters leave.

    It is the arg-max of scores and Gumbel noise (Gumbel 1954), -log(-log(1 - u)) with a hash as u.
    As -log u is never below that noise, one logarithm of float32 leaves out nearly all ids, and
    what is left is computed in float64.

    Args:
        logits: Of one row, [vocabulary].
        settings: Temperature and filters.
        seed: Of the row.
        place: Of the token in its text.
    """
    ids = kept(logits, settings)
    falls = (logits - logits.max())[ids]
    bounds = np.empty(len(ids), np.float32)
    for at in range(0, len(ids), _TOGETHER):
        part = slice(at, at + _TOGETHER)
        chances = _chances(ids[part], seed, place).astype(np.float32)
        bounds[part] = falls[part] / np.float32(settings.temperature) - np.log(chances)

    def exact(places: np.ndarray) -> np.ndarray:
        noise = -np.log(-np.log1p(-_chances(ids[places], seed, place)))
        return np.asarray(falls[places].astype(np.float64) / settings.temperature + noise)

    places = np.flatnonzero(bounds >= exact(np.array([bounds.argmax()])) - _SLACK)
    return int(ids[places[exact(places).argmax()]])


def _chances(ids: np.ndarray, seed: int, place: int) -> np.ndarray:
    """A number for each id, evenly spread over 0 to 1, without either."""
    return np.asarray(((hashes(ids, seed, place) >> np.uint64(12)) + 0.5) * 2.0**-52)
