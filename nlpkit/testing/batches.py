"""Checks that batches hold of each sample what it is by itself, under the names that are said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlpkit.testing.expect import expect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlpkit.contracts import Batch, Codec, Example


_OF_PACKED = {"document_ids", "position_ids"}


def check_batch(name: str, codec: Codec, examples: Sequence[Example]) -> tuple[Batch, list[Batch]]:
    """Collates examples together and each by itself.

    Args:
        name: What messages begin with.
        codec: Collates.
        examples: All of one use.

    Returns:
        The batch of all, and one for each.

    Raises:
        PluginError: They are not as the codec says, or do not add up.
    """
    batch = codec.collate(examples, range(len(examples)))
    alone = [codec.collate([each], [seed]) for seed, each in enumerate(examples)]
    _check_inputs(name, codec, batch)
    for row, (example, own) in enumerate(zip(examples, alone, strict=True)):
        sizes = _check_inputs(name, codec, own)
        _check_lengths(f"{name}: lengths of row {row}", codec.lengths(example), own, sizes)
        _check_rows(name, codec, own, [example])
    _check_rows(name, codec, batch, examples)
    _check_neighbours(name, codec, batch, alone)
    adds_up = np.isclose(batch.count, sum(own.count for own in alone), rtol=1e-12)
    expect(name, adds_up, "the count of a batch is not the sum of its samples' counts")
    return batch, alone


def _check_inputs(name: str, codec: Codec, batch: Batch) -> dict[str, int]:
    """The size of each named axis."""
    given, named = batch.inputs.keys(), codec.inputs.keys()
    gives = f"collate gives the inputs {', '.join(given)}"
    taken = given - _OF_PACKED
    known = taken == named if batch.targets else taken <= named
    expect(name, known, f"{gives}, but `inputs` of the codec names {', '.join(named)}")
    sizes: dict[str, int] = {}
    for key, array in batch.inputs.items():
        axes, shape = codec.inputs.get(key, ("rows", "tokens")), np.shape(array)
        fits = len(axes) == len(shape) and all(
            (sizes.setdefault(axis, size) if isinstance(axis, str) else axis) == size
            for axis, size in zip(axes, shape, strict=True)
        )
        what = f"the input {key} has the shape {shape}, which does not fit its axes"
        expect(name, fits, f"{what} {tuple(axes)} {sizes}")
    expect(name, "rows" in sizes, f'no input has the axis "rows": {dict(codec.inputs)}')
    return sizes


def _check_lengths(
    what: str, lengths: Sequence[tuple[int, ...]], own: Batch, sizes: dict[str, int]
) -> None:
    rows = sizes["rows"]
    expect(what, len(lengths) == rows, f"are of {len(lengths)} rows, but collate makes {rows}")
    longest = tuple(int(max(part)) for part in zip(*lengths, strict=True))
    found = set(longest) <= {size for axis, size in sizes.items() if axis != "rows"}
    expect(what, found, f"say {longest} tokens, but the inputs are of {sizes}")


def _check_rows(name: str, codec: Codec, batch: Batch, examples: Sequence[Example]) -> None:
    counts = [len(codec.lengths(example)) for example in examples]
    rows = np.ones(len(examples), np.int64) if batch.rows is None else np.asarray(batch.rows)
    must = "`rows` of a batch must be, as int64, how many rows of its inputs each sample has"
    equal = rows.dtype == np.int64 and rows.tolist() == counts
    expect(name, equal, f"{must}: {counts}, not {rows.tolist()}")
    for key, arrays in batch.about.items():
        has = f"`about` of a batch has {len(arrays)} {key} for {len(examples)} samples"
        expect(name, len(arrays) == len(examples), has)


def _check_neighbours(name: str, codec: Codec, batch: Batch, alone: Sequence[Batch]) -> None:
    """What a batch holds of a sample depends on the sample alone."""
    start = 0  # where the inputs of a sample begin
    for sample, own in enumerate(alone):
        for kind in ("inputs", "targets"):
            for key, array in getattr(own, kind).items():
                whole = getattr(batch, kind)[key]
                by_sample = kind == "targets" and len(whole) == len(alone)
                first = sample if by_sample else start
                cut = (slice(first, first + len(array)), *map(slice, array.shape[1:]))
                _expect_same(name, f"{kind} {key} of row {sample}", whole[cut], array)
        for key, (array,) in own.about.items():
            _expect_same(name, f"about {key} of row {sample}", batch.about[key][sample], array)
        start += 1 if own.rows is None else int(own.rows[0])


def _expect_same(name: str, what: str, together: np.ndarray, alone: np.ndarray) -> None:
    equal = np.array_equal(together, alone)
    expect(name, equal, f"{what} depends on its neighbours, or on chance")
