"""What a line of a file or an answer says of a prediction, and how many labels it names."""

from __future__ import annotations

from heapq import nlargest
from numbers import Integral
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from nlpkit.errors import InputError, PluginError

if TYPE_CHECKING:
    from nlpkit.contracts import Prediction

_RESERVED = {"text", "error"}


def check_count(name: str, value: object) -> None:
    """Raises InputError where it is no whole number of at least 1."""
    if not isinstance(value, Integral) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")


def fields(prediction: Prediction, top_k: int | None, ranked: str) -> dict[str, Any]:
    """What a line of a file or an answer says: the fields, and the `top_k` best labels as "top".

    Raises:
        InputError: There are no labels to choose from.
        PluginError: A field has a name that a line keeps for the text, or for what is wrong.
    """
    said = prediction.row()
    if taken := _RESERVED & said.keys():
        raise PluginError(
            f'the task predicts a field "{taken.pop()}", which lines have for something else: '
            "text is what was given, error what is wrong with it; it needs another name"
        )
    if top_k is None:
        return said
    keep_best(prediction, top_k, ranked)
    best = getattr(prediction, ranked).items()
    return {**prediction.row(), "top": [{"label": key, "score": score} for key, score in best]}


def check_ranked(ranked: str, asked: str = "top_k") -> None:
    """Raises InputError where a task has no scores of labels, which `asked` needs."""
    if not ranked:
        raise InputError(f"{asked}: the task predicts no labels with scores to choose from")


def keep_best(prediction: Prediction, count: int, ranked: str) -> None:
    """Leaves the largest scores in it, the best first; equal ones stay in the labels' order."""
    check_ranked(ranked)
    scores = getattr(prediction, ranked)
    setattr(prediction, ranked, dict(nlargest(count, scores.items(), key=itemgetter(1))))
