"""How well a vocabulary's tokens are told: additive metrics of what `VocabularyObjective` gives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.metrics import ratio
from nlpkit_tasks.inputs import IGNORED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlpkit.contracts import Batch
    from nlpkit.metrics import Way


class Perplexity:
    """exp(nats ÷ targets), and the share of the targets that are the likeliest token.

    The state holds nats, right ones and targets.
    """

    better: Mapping[str, Way] = {"perplexity": "lower", "token_accuracy": "higher"}

    def __init__(self) -> None:
        self.state = np.zeros(3)

    def update(self, output: np.ndarray, batch: Batch) -> None:
        """Adds a batch; `output` [rows, places, 2] holds nats, and 1 where it is right."""
        told = output[batch.targets["ids"] != IGNORED].astype(np.float64)
        self.state += [*told.sum(axis=0), len(told)]

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """Both; the perplexity of no targets is no number."""
        nats, right, targets = state.tolist()
        mean = nats / targets if targets else math.nan
        perplexity = math.inf if mean > _LARGEST else math.exp(mean)
        return {"perplexity": perplexity, "token_accuracy": float(ratio(right, targets))}

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """Nothing more."""
        return {}


class BitsPerByte:
    """The nats of texts' own tokens ÷ ln 2 ÷ the bytes of the texts, in UTF-8, that they give back.

    Args:
        end: The id of the end, which is no text's own.

    The state holds nats and bytes; `Batch.about` has `bytes`.
    """

    better: Mapping[str, Way] = {"bits_per_byte": "lower"}

    def __init__(self, end: int) -> None:
        self._end, self.state = end, np.zeros(2)

    def update(self, output: np.ndarray, batch: Batch) -> None:
        """Adds a batch; `output` [rows, tokens, 2] holds nats first."""
        ids = batch.targets["ids"]
        nats = output[..., 0][(ids != IGNORED) & (ids != self._end)].sum(dtype=np.float64)
        self.state += [nats, sum(int(each.sum()) for each in batch.about["bytes"])]

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """The one value."""
        nats, size = state.tolist()
        return {"bits_per_byte": nats / math.log(2) / size if size else math.nan}

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """Nothing more."""
        return {}


_LARGEST = 709.0  # of which exp is a float
