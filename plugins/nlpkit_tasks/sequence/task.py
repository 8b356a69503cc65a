"""One label, several labels or a number for a text or a pair of texts."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.contracts import (
    WINDOWS,
    Batch,
    Example,
    HeadSpec,
    Metric,
    Prediction,
    Row,
    Schema,
    pad,
    windows_of,
)
from nlpkit.errors import ConfigError, DataError, Problem, closest, shorten
from nlpkit.metrics import Confusion, MultilabelCounts, RegressionMoments
from nlpkit_tasks import cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tokenizers import Encoding

    from nlpkit_tasks.sequence.config import SequenceConfig


class SequenceTask:
    """Implements `nlpkit.contracts.Task`.

    The schema holds `labels` (sorted), `counts` and `weights` by label, and a regression's `mean`;
    `type` says of labels that were no text what they were: "int" or "bool".
    """

    ids_only = True
    """A subclass whose `encode` looks at words or offsets says False."""

    def __init__(self, options: SequenceConfig) -> None:
        self._options = options
        text = options.text
        self.text_columns: Sequence[str] = (text,) if isinstance(text, str) else text
        self.windowed = options.long_text == "window"
        columns = (options.label,) if isinstance(options.label, str) else options.label
        self.columns = [*self.text_columns, *columns, *filter(None, [options.weight])]
        self._column = ", ".join(columns)
        self._named = options.labels or (() if isinstance(options.label, str) else columns)

    def texts(self, row: Row) -> str | tuple[str, str]:
        """The text, or the pair of texts."""
        texts = [cells.text(row, column) for column in self.text_columns]
        return texts[0] if len(texts) == 1 else (texts[0], texts[1])

    def stratum(self, row: Row) -> str:
        """The label of a row; "" for the targets that have no single label."""
        target = self._target(row)
        self._row_weight(row)
        return target[0] if isinstance(target, tuple) and self._options.target == "class" else ""

    def fit_schema(self, rows: Iterable[Row]) -> Schema:
        """Labels, their counts and their weights; the mean of numbers."""
        numbers, counts, total = array("d"), Counter(dict.fromkeys(self._named, 0)), 0
        types, least = set[str]({"text"} if self._named else ()), math.inf
        for row in rows:
            target, total = self._target(row), total + 1
            if isinstance(target, float):
                numbers.append(target)
            else:
                counts.update(target)
                least = min(least, cells.places(row, self._column))
                types.update(() if self._named else cells.types(row.values[self._column]))
        if not total:
            raise DataError("", problem="there are no training rows")
        if numbers:
            return {"labels": [], "counts": {}, "weights": {}, "mean": float(np.mean(numbers))}
        self._check_counts(counts, total, least)
        ordered = {label: counts[label] for label in sorted(counts)}
        weights = self._class_weights(ordered)
        known = {"type": types.pop()} if types in ({"int"}, {"bool"}) else {}
        return {"labels": list(ordered), "counts": ordered, "weights": weights, **known}

    def encode(
        self, row: Row, encoding: Encoding, schema: Schema, *, targets: bool = True
    ) -> Example:
        """`input_ids`, `token_type_ids`, `windows`, and with targets `label` and `weight`."""
        example = _joined(windows_of(encoding)) if self.windowed else _arrays(encoding)
        if not targets:
            return example
        target, weight = self._target(row), self._row_weight(row)
        label: Any
        if isinstance(target, float):
            label = np.float64(target)
        elif self._options.target == "class":
            label = np.int64(self._id(row, target[0], schema["labels"]))
            weight *= schema["weights"][target[0]]
        else:
            label = np.zeros(len(schema["labels"]), np.uint8)
            label[[self._id(row, name, schema["labels"]) for name in target]] = 1
        return {**example, "label": label, "weight": np.float64(weight)}

    def collate(self, examples: Sequence[Example], seeds: Sequence[int]) -> Batch:
        """Inputs of int64 [batch, tokens]; targets `label` and `weight`; nothing here is random."""
        ids, types = (self._rows(examples, name) for name in ("input_ids", "token_type_ids"))
        inputs = {
            "input_ids": pad(ids).astype(np.int64),
            "attention_mask": pad([np.ones(len(row), np.int64) for row in ids]),
            "token_type_ids": pad(types).astype(np.int64),
        }
        if self.windowed:
            inputs[WINDOWS] = np.array([len(each[WINDOWS]) for each in examples], np.int64)
        if "label" not in examples[0]:
            return Batch(inputs=inputs, targets={}, count=float(len(examples)))
        names = ("label", "weight")
        targets = {name: np.stack([example[name] for example in examples]) for name in names}
        each = targets["label"].shape[1] if targets["label"].ndim > 1 else 1
        return Batch(inputs=inputs, targets=targets, count=float(targets["weight"].sum()) * each)

    def head(self, schema: Schema) -> HeadSpec:
        """One logit a label; one number for regression."""
        return HeadSpec(size=len(schema["labels"]) or 1)

    def metrics(self, schema: Schema) -> Sequence[Metric]:
        """One metric, which gives several values."""
        if self._options.target == "regression":
            return [RegressionMoments(shift=schema["mean"])]
        kind = Confusion if self._options.target == "class" else MultilabelCounts
        return [kind(schema["labels"])]

    def decode(self, output: np.ndarray, batch: Batch, schema: Schema) -> list[Prediction]:
        """`label`, `score` and `scores`; `labels`, `scores` and `probabilities`; or `value`."""
        logits, labels = output.astype(np.float64), schema["labels"]
        if self._options.target == "regression":
            return [Prediction(value=float(value)) for value in logits.reshape(-1)]
        one = self._options.target == "class"
        probabilities = (_softmax(logits) if one else _sigmoid(logits)).tolist()
        rows = [dict(zip(labels, row, strict=True)) for row in probabilities]
        return [_best(row) if one else _likely(row) for row in rows]

    def truths(self, batch: Batch, schema: Schema) -> list[Any]:
        """The label, the labels or the number of each row."""
        labels, targets = schema["labels"], batch.targets["label"].tolist()
        if self._options.target == "regression":
            return list(targets)
        if self._options.target == "class":
            return [labels[label] for label in targets]
        return [[labels[at] for at, has in enumerate(row) if has] for row in targets]

    def _rows(self, examples: Sequence[Example], name: str) -> list[np.ndarray]:
        """The arrays of all windows, sample after sample; without windows those of the samples."""
        if not self.windowed:
            return [example[name] for example in examples]
        return [
            part
            for example in examples
            for part in np.split(example[name], np.cumsum(example[WINDOWS])[:-1])
        ]

    def _target(self, row: Row) -> tuple[str, ...] | float:
        column, target = self._options.label, self._options.target
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
            raise DataError(row.address, column=self._column, problem=problem, remedy=remedy)
        return names

    def _check_counts(self, counts: Mapping[str, int], rows: int, places: float) -> None:
        """`places` is how many the shortest list has."""
        seen, least = sum(map(bool, counts.values())), 2 if self._options.target == "class" else 1
        if seen < least:
            problem = f"the training rows have {'one label' if seen else 'no labels'}; "
            problem += f"at least {least} are needed"
            raise DataError("", column=self._column, problem=problem)
        problem, remedy = "", cells.LIST_OF_FLAGS
        if counts.keys() == {"0", "1"} and set(counts.values()) == {rows}:
            # of [0, 1] alone nobody can tell; but if every row has both, there is nothing to learn
            problem = "all rows have the labels 0 and 1"
        elif all(map(cells.lists_flags, counts)):
            problem = "all labels are lists of 0 and 1"
        elif places > max(2, len(counts)):  # a ClassLabel of no and yes; of labels none need repeat
            problem = f"each row lists {places} or more labels, and they are only {len(counts)}"
            remedy = f"if they are no and yes, {remedy}; {cells.cast(self._column, lists=True)}"
        if problem and not self._named:
            raise DataError("", column=self._column, problem=problem, remedy=remedy)

    def _row_weight(self, row: Row) -> float:
        column = self._options.weight
        if column is None:
            return 1.0
        weight = cells.number(row, column)
        if weight < 0:
            raise DataError(row.address, column=column, value=weight, problem="is below 0")
        return weight

    def _id(self, row: Row, label: str, labels: Sequence[str]) -> int:
        place = bisect_left(labels, label)
        if place == len(labels) or labels[place] != label:
            raise DataError(
                row.address,
                column=self._column,
                value=label,
                problem=f"is not one of the {len(labels)} labels",
                suggestion=closest(label, labels),
                remedy=cells.NUMBERS if label.isdecimal() and int(label) < len(labels) else "",
            )
        return place

    def _class_weights(self, counts: Mapping[str, int]) -> dict[str, float]:
        given = self._options.class_weights
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


def _arrays(encoding: Encoding) -> dict[str, Any]:
    return {
        "input_ids": np.array(encoding.ids, np.int32),
        "token_type_ids": np.array(encoding.type_ids, np.uint8),
    }


def _joined(windows: Sequence[Encoding]) -> dict[str, Any]:
    """The arrays of windows one after the other, and how long each is."""
    parts = [_arrays(each) for each in windows]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**joined, WINDOWS: np.array([len(each.ids) for each in windows], np.int32)}


def _unknown_weight(label: str, labels: Sequence[str]) -> Problem:
    meant = closest(label, labels)
    return Problem(
        key="task.class_weights",
        message=f'"{label}" is not one of the {len(labels)} labels of the training rows',
        remedy=f'did you mean "{meant}"?' if meant else f"they are: {shorten(', '.join(labels))}",
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits))


def _best(probabilities: Mapping[str, float]) -> Prediction:
    label = max(probabilities, key=probabilities.__getitem__)
    return Prediction(label=label, score=probabilities[label], scores=probabilities)


def _likely(probabilities: Mapping[str, float]) -> Prediction:
    chosen = [label for label, probability in probabilities.items() if probability >= 0.5]
    scores = [probabilities[label] for label in chosen]
    return Prediction(labels=chosen, scores=scores, probabilities=probabilities)
