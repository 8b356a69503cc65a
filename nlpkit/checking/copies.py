"""Finds rows whose text stands in another row too, from 12 bytes a row: hashes, never texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nlpkit.contracts import Example, TextInput

_TARGET = (1 << 32) - 1
_CHUNK = 1 << 16  # rows that are looked up at a time


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """One way in which rows repeat others.

    Attributes:
        kind: `copy`: text and target of another row of the split; `conflict`: the text with
            another target; `leak`: the text of a row of the first split.
        split: The split of the rows that repeat.
        count: How many they are.
        rows: A row that is repeated and the first that repeats it, counted from the first `add`.
    """

    kind: Literal["copy", "conflict", "leak"]
    split: str
    count: int
    rows: tuple[int, int]


class Copies:
    """Takes note of every row; `repeats` says which texts stand twice.

    Args:
        sizes: How many rows each split will have, in the order in which they are added.
    """

    def __init__(self, sizes: dict[str, int]) -> None:
        self._splits = list(sizes)
        self._ends = np.cumsum(list(sizes.values()))
        self._texts = np.zeros(self._ends[-1], np.uint64)
        self._targets = np.zeros(self._ends[-1], np.uint32)
        self._count = 0

    def add(self, text: Sequence[TextInput], example: Example | None) -> None:
        """The next row; without an example it is left out, and like no other."""
        if example is None:
            self._texts[self._count] = self._count
        else:
            texts = [tuple(each) if isinstance(each, list) else each for each in text]
            self._texts[self._count] = hash(tuple(texts)) % 2**64
            self._targets[self._count] = _hash_of_target(example)
        self._count += 1

    def repeats(self) -> list[Repeat]:
        """Every kind of repetition in every split, where there is one."""
        rows = self._repeated()
        texts, targets = self._texts[rows], self._targets[rows]
        splits = np.searchsorted(self._ends, rows, side="right")
        order = np.lexsort((rows, targets, splits, texts))
        rows, texts, targets, splits = rows[order], texts[order], targets[order], splits[order]
        if not len(rows):
            return []
        same_text = np.append(False, texts[1:] == texts[:-1])
        same_split = same_text & np.append(False, splits[1:] == splits[:-1])
        same_target = np.append(False, targets[1:] == targets[:-1])
        before = np.append(0, np.arange(len(rows) - 1))
        head = np.maximum.accumulate(np.where(same_text, 0, np.arange(len(rows))))
        kinds: Sequence[tuple[Literal["copy", "conflict", "leak"], np.ndarray, np.ndarray]] = (
            ("copy", same_split & same_target, before),
            ("conflict", same_split & ~same_target, before),
            ("leak", same_text & (splits > 0) & (splits[head] == 0), head),
        )
        return [
            Repeat(
                kind=kind,
                split=self._splits[split],
                count=len(found),
                rows=_first(rows[partner[found]], rows[found]),
            )
            for kind, repeats, partner in kinds
            for split in range(len(self._splits))
            if len(found := np.flatnonzero(repeats & (splits == split)))
        ]

    def _repeated(self) -> np.ndarray:
        """The rows whose text stands more than once, in order."""
        ordered = np.sort(self._texts)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        if not len(twice):
            return np.zeros(0, np.int64)
        return np.concatenate(list(self._among(twice)))

    def _among(self, texts: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(self._texts), _CHUNK):
            chunk = self._texts[start : start + _CHUNK]
            places = np.minimum(np.searchsorted(texts, chunk), len(texts) - 1)
            yield start + np.flatnonzero(texts[places] == chunk)


def _hash_of_target(example: Example) -> int:
    """Equal texts have equal inputs, so what else differs is the target; a weight is none."""
    parts = (np.asarray(value).tobytes() for key, value in example.items() if key != "weight")
    return hash(b"".join(parts)) & _TARGET


def _first(repeated: np.ndarray, repeating: np.ndarray) -> tuple[int, int]:
    """The pair whose second row comes first, in the order of the rows."""
    at = int(np.argmin(np.maximum(repeated, repeating)))
    first, second = sorted((int(repeated[at]), int(repeating[at])))
    return first, second
