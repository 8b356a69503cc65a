"""What models take: tokens as arrays, of one text or of its windows one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlpkit.contracts import pad
from nlpkit.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Encoding

    from nlpkit.contracts import Example, Vocabulary

IGNORED = -100
"""What stands in targets where there is none."""


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


def with_mask(rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """`input_ids` and `attention_mask`, int64 [rows, tokens], of the ids of each row."""
    ones = [np.ones(len(row), np.int64) for row in rows]
    return {"input_ids": pad(rows).astype(np.int64), "attention_mask": pad(ones)}


def of_documents(rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """`document_ids`, from 1, and `position_ids` of packed rows, int64 [rows, tokens].

    Args:
        rows: How many tokens each document of a row has.
    """
    numbers = [np.repeat(np.arange(1, len(sizes) + 1), sizes) for sizes in rows]
    return {"document_ids": pad(numbers), "position_ids": pad([places(sizes) for sizes in rows])}


def places(sizes: np.ndarray) -> np.ndarray:
    """The place of each token in its document, by how many tokens the documents have."""
    return np.asarray(np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes))


def needed(vocabulary: Vocabulary, role: str, task: str) -> int:
    """The id of a special token. Raises ConfigError where the tokenizer has none of the role."""
    if role not in vocabulary.special:
        message = f'has no token for the role "{role}", which task "{task}" needs'
        remedy = "wordpiece, bpe and char have one; of a pretrained tokenizer "
        remedy += f"tokenizer_config.json names it, as {role}_token"
        raise ConfigError([Problem(key="tokenizer", message=message, remedy=remedy)])
    return vocabulary.special[role]


def padded(examples: Sequence[Example]) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The inputs of a batch, int64 [rows, tokens], and its `rows`."""
    ids, types = (by_window(examples, name) for name in ("input_ids", "token_type_ids"))
    inputs = {**with_mask(ids), "token_type_ids": pad(types).astype(np.int64)}
    if len(ids) == len(examples):
        return inputs, None
    return inputs, np.array([len(each["windows"]) for each in examples], np.int64)
