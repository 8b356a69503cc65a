"""What models take: tokens as arrays, of one text or of its windows one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlpkit.contracts import pad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Encoding

    from nlpkit.contracts import Example


def arrays(encoding: Encoding) -> dict[str, np.ndarray]:
    """`input_ids` and `token_type_ids` of an example."""
    return {
        "input_ids": np.array(encoding.ids, np.int32),
        "token_type_ids": np.array(encoding.type_ids, np.uint8),
    }


def joined(windows: Sequence[Encoding]) -> dict[str, np.ndarray]:
    """The arrays of windows one after the other, and how long each is, as `windows`."""
    parts = [arrays(each) for each in windows]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**whole, "windows": np.array([len(each.ids) for each in windows], np.int32)}


def by_window(examples: Sequence[Example], name: str) -> list[np.ndarray]:
    """The arrays of all windows, sample after sample; of examples without windows their own."""
    if "windows" not in examples[0]:
        return [example[name] for example in examples]
    return [
        part
        for example in examples
        for part in np.split(example[name], np.cumsum(example["windows"])[:-1])
    ]


def padded(examples: Sequence[Example]) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The inputs of a batch, int64 [rows, tokens], and its `rows`."""
    ids, types = (by_window(examples, name) for name in ("input_ids", "token_type_ids"))
    inputs = {
        "input_ids": pad(ids).astype(np.int64),
        "attention_mask": pad([np.ones(len(row), np.int64) for row in ids]),
        "token_type_ids": pad(types).astype(np.int64),
    }
    if len(ids) == len(examples):
        return inputs, None
    return inputs, np.array([len(each["windows"]) for each in examples], np.int64)
