"""One label, several labels or a number for a text or a pair of texts: what is in a row."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from nlpkit.contracts import Row, Schema, Task, Vocabulary
from nlpkit.errors import ConfigError, DataError, Problem, closest, shorten
from nlpkit_tasks import cells
from nlpkit_tasks.sequence.codec import SequenceCodec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nlpkit.contracts import TextInput
    from nlpkit_tasks.sequence.config import SequenceConfig


class SequenceTask(Task):
    """The first half of `sequence`.

    The schema holds `labels` (sorted), `counts` and `weights` by label, and a regression's `mean`;
    `type` says of labels that were no text what they were: "int" or "bool".
    """

    def __init__(self, options: SequenceConfig) -> None:
        self.options = options
        text: Sequence[str] = (options.text,) if isinstance(options.text, str) else options.text
        self.columns = {"text": text}
        columns = (options.label,) if isinstance(options.label, str) else options.label
        self.reads = [*text, *columns, *filter(None, [options.weight])]
        self.column = ", ".join(columns)
        """What messages call the column of the target."""
        self._named = options.labels or (() if isinstance(options.label, str) else columns)

    def texts(self, row: Row, *, targets: bool) -> Mapping[str, TextInput]:
        """The text, or the pair of texts."""
        first, *second = (cells.text(row, column) for column in self.columns["text"])
        return {"text": (first, second[0]) if second else first}

    def stratum(self, row: Row) -> str:
        """The label of a row; "" for the targets that have no single label."""
        target = self.target(row)
        self.weight(row)
        return target[0] if isinstance(target, tuple) and self.options.target == "class" else ""

    def fit(self, rows: Iterable[Row]) -> Schema:
        """Labels, their counts and their weights; the mean of numbers."""
        numbers, counts, total = array("d"), Counter(dict.fromkeys(self._named, 0)), 0
        types, least = set[str]({"text"} if self._named else ()), math.inf
        for row in rows:
            target, total = self.target(row), total + 1
            if isinstance(target, float):
                numbers.append(target)
            else:
                counts.update(target)
                least = min(least, cells.places(row, self.column))
                types.update(() if self._named else cells.types(row.values[self.column]))
        if not total:
            raise DataError("", problem="there are no training rows")
        if numbers:
            return {"labels": [], "counts": {}, "weights": {}, "mean": float(np.mean(numbers))}
        self._check_counts(counts, total, least)
        ordered = {label: counts[label] for label in sorted(counts)}
        weights = self._class_weights(ordered)
        known = {"type": types.pop()} if types in ({"int"}, {"bool"}) else {}
        return {"labels": list(ordered), "counts": ordered, "weights": weights, **known}

    def codec(self, schema: Schema, vocabulary: Vocabulary) -> SequenceCodec:
        """The other half."""
        return SequenceCodec(self, schema, vocabulary)

    def target(self, row: Row) -> tuple[str, ...] | float:
        """The labels of a row, or its number. Raises DataError."""
        column, target = self.options.label, self.options.target
        if not isinstance(column, str):
            names = tuple(name for name in column if cells.flag(row, name))
        elif self._named:
            names = cells.named(row, column, self._named)
        elif target == "regression":
            return cells.number(row, column)
        elif target == "multilabel":
            return cells.labels(row, column)
        else:
            return (cells.label(row, column),)
        if target == "class" and len(names) != 1:
            problem = f"{len(names)} labels have a 1, not one"
            remedy = "task.target: multilabel takes any number of them"
            raise DataError(row.address, column=self.column, problem=problem, remedy=remedy)
        return names

    def weight(self, row: Row) -> float:
        """The weight of a row. Raises DataError."""
        column = self.options.weight
        if column is None:
            return 1.0
        weight = cells.number(row, column)
        if weight < 0:
            raise DataError(row.address, column=column, value=weight, problem="is below 0")
        return weight

    def _check_counts(self, counts: Mapping[str, int], rows: int, places: float) -> None:
        """`places` is how many the shortest list has."""
        seen, least = sum(map(bool, counts.values())), 2 if self.options.target == "class" else 1
        if seen < least:
            problem = f"the training rows have {'one label' if seen else 'no labels'}; "
            problem += f"at least {least} are needed"
            raise DataError("", column=self.column, problem=problem)
        problem, remedy = "", cells.LIST_OF_FLAGS
        if counts.keys() == {"0", "1"} and set(counts.values()) == {rows}:
            # of [0, 1] alone nobody can tell; but if every row has both, there is nothing to learn
            problem = "all rows have the labels 0 and 1"
        elif all(map(cells.lists_flags, counts)):
            problem = "all labels are lists of 0 and 1"
        elif places > max(2, len(counts)):  # a ClassLabel of no and yes; of labels none need repeat
            problem = f"each row lists {places} or more labels, and they are only {len(counts)}"
            remedy = f"if they are no and yes, {remedy}; {cells.cast(self.column, lists=True)}"
        if problem and not self._named:
            raise DataError("", column=self.column, problem=problem, remedy=remedy)

    def _class_weights(self, counts: Mapping[str, int]) -> dict[str, float]:
        given = self.options.class_weights
        if isinstance(given, str):
            seen = sum(map(bool, counts.values()))
            balanced = sum(counts.values()) / seen if given == "balanced" else 0.0
            return {
                label: balanced / count if balanced and count else 1.0
                for label, count in counts.items()
            }
        if unknown := [label for label in given if label not in counts]:
            raise ConfigError(_unknown_weight(label, list(counts)) for label in unknown)
        return {label: given.get(label, 1.0) for label in counts}


def _unknown_weight(label: str, labels: Sequence[str]) -> Problem:
    meant = closest(label, labels)
    return Problem(
        key="task.class_weights",
        message=f'"{label}" is not one of the {len(labels)} labels of the training rows',
        remedy=f'did you mean "{meant}"?' if meant else f"they are: {shorten(', '.join(labels))}",
    )
