from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.checking.copies import Copies

ROWS = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 2)), max_size=12)


def example(target: int) -> dict[str, np.ndarray]:
    return {"input_ids": np.arange(3), "label": np.array(target), "weight": np.array(1.0)}


@given(ROWS, ROWS)
@settings(deadline=None)
def test_what_is_counted_is_what_a_plain_count_finds(
    train: list[tuple[str, int]], test: list[tuple[str, int]]
) -> None:
    copies = Copies({"train": len(train), "test": len(test)})
    for text, target in [*train, *test]:
        copies.add((text,), example(target))
    expected: Counter[tuple[str, str]] = Counter()
    for split, rows in (("train", train), ("test", test)):
        expected["copy", split] = len(rows) - len(set(rows))
        expected["conflict", split] = len(set(rows)) - len({text for text, _ in rows})
    expected["leak", "test"] = sum(text in dict(train) for text, _ in test)
    found = copies.repeats()
    assert {(each.kind, each.split): each.count for each in found} == dict(+expected)
    for each in found:
        (one, first), (other, second) = (([*train, *test])[row] for row in each.rows)
        assert one == other
        assert each.rows[0] < each.rows[1]
        assert each.kind == "leak" or (first == second) == (each.kind == "copy")


def peak(count: int) -> int:
    """The most bytes that so many rows take at once."""
    row = example(1)
    tracemalloc.start()
    copies = Copies({"train": count})
    for number in range(count):
        copies.add((f"text {number}",), row)
    assert copies.repeats() == []
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_a_row_costs_twenty_bytes_at_most() -> None:
    peak(2)  # what is loaded at the first call is of no row
    assert peak(50_000) < 50_000 * 22
