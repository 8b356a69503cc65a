"""Long texts in overlapping windows: how they are cut, counted, and made one again. No torch.

A window is a row of the model's inputs, and a sample is one or more of them (`contracts.Task`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlpkit.contracts import WINDOWS
from nlpkit.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenizers import Tokenizer

    from nlpkit.config.schema import Config
    from nlpkit.contracts import Example, Task

_KEY = "tokenizer.max_length"
_SHORTEST = 8  # tokens of a window: below, special tokens and overlap leave next to nothing


def windowed(task: Task) -> bool:
    """Whether a task takes long texts in windows."""
    return bool(getattr(task, "windowed", False))


def overlap(max_length: int) -> int:
    """Tokens that a window shares with the one before."""
    return max_length // 4


def enable_truncation(tokenizer: Tokenizer, task: Task, max_length: int) -> None:
    """Makes a tokenizer cut at the longest length as the task wants it; tokenizer.json keeps it.

    Raises:
        ConfigError: Special tokens leave windows of that length less room than the overlap takes.
    """
    shared = overlap(max_length) if windowed(task) else 0
    special = tokenizer.num_special_tokens_to_add(False)
    if shared and shared >= max_length - special:
        message = f"windows of {max_length} tokens cannot overlap: {special} of them are special"
        remedy = f"set it to {2 * special + _SHORTEST} or more"
        raise ConfigError([Problem(key=_KEY, message=message, remedy=remedy)])
    tokenizer.enable_truncation(max_length, stride=shared)


def problems(config: Config, task: Task) -> list[Problem]:
    """What keeps a resolved config's texts from being cut into windows."""
    longest = config.tokenizer.max_length
    if not windowed(task) or longest >= _SHORTEST:
        return []
    message = f"windows of {longest} tokens cannot overlap"
    remedy = f"set it to {_SHORTEST} or more"
    return [config.origin.problem(("tokenizer", "max_length"), message, remedy)]


def windows_of_length(length: int, *, special: int, max_length: int) -> int:
    """How many windows a text makes that has `length` tokens, `special` ones of them special."""
    fresh = max(1, max_length - special - overlap(max_length))  # tokens a further window adds
    return 1 + max(0, -(-(length - max_length) // fresh))


def counts_of(examples: Sequence[Example]) -> np.ndarray | None:
    """Windows of each example, int64 [examples]; None where they have none."""
    if not examples or WINDOWS not in examples[0]:
        return None
    return np.array([len(example[WINDOWS]) for example in examples], np.int64)


def pooled(logits: np.ndarray, windows: np.ndarray | None) -> np.ndarray:
    """The mean of each sample's logits: [windows, size] and [batch] give [batch, size]."""
    if windows is None:
        return logits
    sums = np.add.reduceat(logits, _starts(windows), axis=0)
    means: np.ndarray = sums / windows[:, None].astype(logits.dtype)
    return means


def first_windows(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs of a batch with one window for each sample, its first."""
    if (windows := inputs.get(WINDOWS)) is None:
        return dict(inputs)
    rows = {name: array[_starts(windows)] for name, array in inputs.items() if name != WINDOWS}
    return {**rows, WINDOWS: np.ones_like(windows)}


def _starts(windows: np.ndarray) -> np.ndarray:
    starts: np.ndarray = np.cumsum(windows) - windows
    return starts
