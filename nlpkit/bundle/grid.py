"""Arrays for graphs, of all sizes that code may branch on (law 6): what needs no text."""

from __future__ import annotations

import math
from itertools import cycle, islice, product
from typing import TYPE_CHECKING

import numpy as np

from nlpkit.engine.generate import shape_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import GraphSpec, Row

    Sizes = Mapping[str, int]

BATCHES = (1, 2, 3, 17)
SOME = (1, 5)
"""Rows that each length is asked with where it is about a power of 2."""

_LENGTHS = (1, 7)
_OTHERS = (1, 3)


def grid(spec: GraphSpec, longest: int) -> list[Sizes]:
    """Sizes by axis: of rows, tokens, pasts, and whatever else has a name.

    A past is short, or as long as can be, which is asked of one row: it takes much memory.

    Args:
        spec: The graph.
        longest: Tokens that it takes at most, those of the past included.
    """
    names = axes_of(spec)
    lengths = sorted({*(min(each, longest) for each in _LENGTHS), longest})
    others = sorted(names - {"rows", "tokens", "past", "present"})
    found = []
    for rows, tokens in [*product(BATCHES, lengths), *product(SOME, _edges(longest))]:
        pasts = {0, 1} | ({longest - 1} if rows == 1 else set())
        fitting = sorted(past for past in pasts if past + tokens <= longest)
        for past, *sizes in product(fitting, *(_OTHERS for _ in others)):
            given = {"rows": rows, "tokens": tokens, "past": past}
            given |= dict(zip(others, sizes, strict=True))
            found.append({axis: size for axis, size in given.items() if axis in names})
    return [sizes for at, sizes in enumerate(found) if sizes not in found[:at]]


def axes_of(spec: GraphSpec) -> set[str]:
    """The axes of a graph's inputs that have a name."""
    return {axis for axes in spec.inputs.values() for axis in axes if isinstance(axis, str)}


class Filling:
    """Fills arrays.

    Ids are all those of the vocabulary, one after the other, special tokens first; masks leave
    padding in every other row; what else a task gives is as in a real batch, over and over, and
    below the number of tokens, for it may name their places; what no task gives is random.

    Args:
        model: Has the tokenizer.
        rows: Real ones.
    """

    def __init__(self, model: Model, rows: Sequence[Row]) -> None:
        self._real = model.batch(rows[: max(BATCHES)], targets=True).inputs
        self._random = np.random.default_rng(13)
        added = model.tokenizer.get_added_tokens_decoder()
        special = [number for number, token in added.items() if token.special]
        ids = self._random.permutation(model.bundle.vocabulary.size)
        self._ids = cycle([*special, *ids.tolist()])

    def arrays(self, spec: GraphSpec, sizes: Sizes) -> dict[str, np.ndarray]:
        """The inputs of a graph by name."""
        present = sizes.get("past", 0) + sizes.get("tokens", 0)
        known = {**sizes, "present": present}
        return {
            name: self._array(name, shape_of(axes, known, other=1), present)
            for name, axes in spec.inputs.items()
        }

    def _array(self, name: str, shape: Sequence[int], tokens: int) -> np.ndarray:
        real = self._real.get(name)
        kind = np.dtype(np.int64) if real is None else real.dtype
        if name.endswith("input_ids"):
            ids = islice(self._ids, math.prod(shape))
            return np.fromiter(ids, kind).reshape(shape)
        if name.endswith("_mask"):
            mask = np.ones(shape, kind)
            mask[1::2, (shape[1] + 1) // 2 :] = 0
            return mask
        if real is None:
            return self._random.standard_normal(shape, np.float32)
        for axis, size in enumerate(shape):
            real = np.asarray(real.take(range(size), axis, mode="wrap"))
        return real % tokens if tokens and kind.kind in "iu" else real


def _edges(longest: int) -> list[int]:
    """Lengths below the longest where code is most likely to branch: about the powers of 2."""
    powers = [1 << power for power in range(longest.bit_length() + 1)]
    near = {power + by for power in powers for by in (-1, 0, 1)}
    return sorted(length for length in near if 0 < length < longest)
