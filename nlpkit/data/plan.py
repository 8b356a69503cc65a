"""Which samples meet in which optimizer step: a pure function of lengths, seed and epoch (law 2).

Randomness is hashing. Every sample's id is mixed with seed and epoch by SplitMix64 (Steele, Lea and
Flood 2014, "Fast splittable pseudorandom number generators", figure 17: the 64-bit finaliser, a
bijection), and an order is the order of the hashes, so a plan is the same on every machine and
numpy version, whatever the workers and ranks.
"""

from __future__ import annotations

import numpy as np

BATCHES_PER_CHUNK = 64
"""Bucketing sorts this many batches' samples by length at a time: little padding, still random."""

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_SAMPLES, _BATCHES = 1, 2  # streams of one epoch: the order of samples, the order of batches


def mix(*integers: int) -> int:
    """A 64-bit hash of integers: a seed for whatever depends on just these."""
    state = 0
    for integer in integers:
        state = ((state ^ (integer & _MASK)) + _GAMMA) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def hashes(ids: np.ndarray, *prefix: int) -> np.ndarray:
    """`mix(*prefix, id)` of each id, uint64 of the same shape; distinct ids, distinct hashes."""
    state = (ids.astype(np.uint64) ^ np.uint64(mix(*prefix))) + np.uint64(_GAMMA)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def sample_seeds(ids: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """A seed for each sample, uint64 [ids]: it depends on seed, epoch and the id only."""
    return hashes(ids, seed, epoch)


def first_ids(samples: int, count: int, seed: int) -> np.ndarray:
    """The ids of so many samples, those with the smallest hash of seed and id; in order."""
    ids = np.arange(samples)
    order = np.argsort(hashes(ids, seed, 0), kind="stable")
    return np.sort(order[:count])


def plan(
    lengths: np.ndarray, *, seed: int, epoch: int, batch_size: int, bucketing: bool
) -> list[np.ndarray]:
    """The ordered global batches of one epoch: each sample once, at most one batch partial.

    Args:
        lengths: Tokens of each sample, [samples].
        seed: The run's seed.
        epoch: Which epoch.
        batch_size: Samples per optimizer step over all devices.
        bucketing: Whether samples of like length meet: the shuffled samples are sorted by length
            inside chunks of 64 batches, cut into batches, and the batches are shuffled again.

    Returns:
        Arrays of sample ids (int64).
    """
    order = _shuffled(len(lengths), seed, epoch, _SAMPLES)
    if not bucketing:
        return _cut(order, batch_size)
    batches = [
        batch
        for chunk in _cut(order, BATCHES_PER_CHUNK * batch_size)
        for batch in _cut(_by_length(chunk, lengths), batch_size)
    ]
    return [batches[index] for index in _shuffled(len(batches), seed, epoch, _BATCHES)]


def share(
    batch: np.ndarray,
    lengths: np.ndarray,
    *,
    rank: int,
    size: int,
    micro_batch_size: int | None,
    rows: np.ndarray | None = None,
) -> list[np.ndarray]:
    """A rank's micro-batches of a global batch; [] for a rank that gets nothing.

    A rank takes every size-th sample of the batch sorted by length (equal work for each), cut into
    pieces of at most `micro_batch_size` samples (None: as many as its share has). With `rows` a
    piece has at most so many of them, as `cut` has it.
    """
    own = _by_length(batch, lengths)[rank::size]
    return cut(own, micro_batch_size or max(1, len(own)), rows)


def evaluation_plan(
    lengths: np.ndarray, *, batch_size: int, rows: np.ndarray | None = None
) -> list[np.ndarray]:
    """Batches of all samples, each once, sorted by length; the same whatever the ranks."""
    return cut(_by_length(np.arange(len(lengths)), lengths), batch_size, rows)


def cut(ids: np.ndarray, size: int, rows: np.ndarray | None = None) -> list[np.ndarray]:
    """The ids in order, in pieces that the memory has room for.

    Args:
        ids: Sample ids.
        size: Samples of a piece, at most.
        rows: Rows of the inputs that each sample becomes, [samples]: then a piece has at most
            `size` of them, but at least one sample. None: one each.
    """
    if rows is None:
        return _cut(ids, size)
    pieces, start, taken = [], 0, 0
    for place, count in enumerate(rows[ids].tolist()):
        if place > start and taken + count > size:
            pieces.append(ids[start:place])
            start, taken = place, 0
        taken += count
    return [*pieces, ids[start:]] if len(ids) else []


def _shuffled(count: int, *stream: int) -> np.ndarray:
    return np.argsort(hashes(np.arange(count), *stream))


def _by_length(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return ids[np.argsort(lengths[ids], kind="stable")]


def _cut(ids: np.ndarray, size: int) -> list[np.ndarray]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]
