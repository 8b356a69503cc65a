"""How near what is written comes to the targets: additive metrics of predictions.

Texts are compared as they stand in the data: nothing is cut or normalised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.errors import InputError
from nlpkit.metrics import ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nlpkit.contracts import Batch, Prediction
    from nlpkit.metrics import Way


def text_of(array: np.ndarray) -> str:
    """The text that an array of UTF-8 holds."""
    return array.tobytes().decode()


def overlaps(words: str | None) -> list[Overlap]:
    """BLEU and chrF; none where `words`, how BLEU divides texts into words, is None."""
    return [] if words is None else [Overlap("bleu", tokenize=words), Overlap("chrf")]


class Overlap:
    """BLEU (Papineni et al. 2002) or chrF (Popović 2015), as sacrebleu has them.

    The state holds what sacrebleu counts of the texts, which adds up.

    Args:
        name: "bleu" or "chrf".
        options: sacrebleu's.

    Raises:
        InputError: sacrebleu is not installed, or not what it divides words with.
    """

    of = "predictions"

    def __init__(self, name: str, **options: Any) -> None:
        try:
            from sacrebleu.metrics.bleu import BLEU
            from sacrebleu.metrics.chrf import CHRF
        except ModuleNotFoundError as error:
            raise InputError(
                f"BLEU and chrF need {error.name}, which is not here: pip install "
                "'nlpkit-sdk[translation]', or set task.bleu to null"
            ) from error
        try:
            self._name, self._scorer = name, {"bleu": BLEU, "chrf": CHRF}[name](**options)
        except RuntimeError as error:  # a package of its own divides Japanese
            raise InputError(
                f"task.bleu: sacrebleu lacks what {options['tokenize']} needs: "
                "pip install 'sacrebleu[ja]'"
            ) from error
        self.better: Mapping[str, Way] = {name: "higher"}
        self.state = np.array(self._counted([""], [""]), np.float64)

    def update(self, output: Sequence[Prediction], batch: Batch) -> None:
        """Adds a batch, whose `about` has each `reference`."""
        references = list(map(text_of, batch.about["reference"]))
        self.state += self._counted([each.output for each in output], references)

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """The one value, from 0 to 100."""
        counts = state.round().astype(int).tolist()
        return {self._name: float(self._scorer._compute_score_from_stats(counts).score)}

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """sacrebleu's signature, without which the value says little."""
        return {f"{self._name}_signature": str(self._scorer.get_signature())}

    def _counted(self, texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
        found = self._scorer._extract_corpus_statistics(texts, [references])
        total: np.ndarray = np.array(found, np.float64).sum(axis=0)
        return total


class ExactMatch:
    """The share of texts that are their target; the state holds these, and all."""

    of = "predictions"
    better: Mapping[str, Way] = {"exact_match": "higher"}

    def __init__(self) -> None:
        self.state = np.zeros(2)

    def update(self, output: Sequence[Prediction], batch: Batch) -> None:
        """Adds a batch, whose `about` has each `reference`."""
        pairs = zip(output, batch.about["reference"], strict=True)
        right = sum(each.output == text_of(reference) for each, reference in pairs)
        self.state += [right, len(output)]

    def compute(self, state: np.ndarray) -> dict[str, float]:
        """The one value."""
        return {"exact_match": float(ratio(state[0], state[1]))}

    def details(self, state: np.ndarray) -> dict[str, Any]:
        """Nothing more."""
        return {}
