"""One label, several labels or a number for a text or a pair of texts: from tokens, and back."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.contracts import Batch, Codec, Cut, HeadSpec, Part, Prediction, Windows
from nlpkit.errors import DataError, closest
from nlpkit.metrics import Confusion, MultilabelCounts, RegressionMoments
from nlpkit_tasks import cells, inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nlpkit.contracts import Arrays, Example, Metric, Row, Schema, Use, Vocabulary
    from nlpkit_tasks.sequence.task import SequenceTask


class SequenceCodec(Codec):
    """The second half of `sequence`."""

    def __init__(self, task: SequenceTask, schema: Schema, vocabulary: Vocabulary) -> None:
        super().__init__(schema, vocabulary)
        self.inputs = {**Codec.inputs, "token_type_ids": ("rows", "tokens")}
        self._task, self._target = task, task.options.target
        self._windowed = task.options.long_text == "window"
        self.parts = {"text": Part(long=Windows() if self._windowed else Cut(), needs="ids")}
        self.labels = schema["counts"]
        labels = tuple(schema["labels"])
        self.head = HeadSpec(size=len(labels) or 1, labels=labels, kind=self._target)
        fields = {"class": "scores", "multilabel": "probabilities", "regression": ""}
        self.ranked = fields[self._target]

    def encode(self, row: Row, encodings: Mapping[str, Any], use: Use) -> Example:
        """`input_ids`, `token_type_ids`, `windows`, and with targets `label` and `weight`."""
        encoding = encodings["text"]
        example: dict[str, Any]
        example = inputs.joined(encoding) if self._windowed else inputs.arrays(encoding)
        if use == "predict":
            return example
        target, weight = self._task.target(row), self._task.weight(row)
        label: Any
        if isinstance(target, float):
            label = np.float64(target)
        elif self._target == "class":
            label = np.int64(self._id(row, target[0]))
            weight *= self.schema["weights"][target[0]]
        else:
            label = np.zeros(len(self.labels), np.uint8)
            label[[self._id(row, name) for name in target]] = 1
        return {**example, "label": label, "weight": np.float64(weight)}

    def lengths(self, example: Example) -> Sequence[tuple[int, ...]]:
        """The tokens of each window."""
        if not self._windowed:
            return [(len(example["input_ids"]),)]
        return [(length,) for length in example["windows"].tolist()]

    def collate(self, examples: Sequence[Example], seeds: Sequence[int]) -> Batch:
        """Inputs of int64 [rows, tokens]; targets `label` and `weight`; nothing here is random."""
        arrays, rows = inputs.padded(examples)
        if "label" not in examples[0]:
            return Batch(inputs=arrays, targets={}, count=float(len(examples)), rows=rows)
        names = ("label", "weight")
        targets = {name: np.stack([example[name] for example in examples]) for name in names}
        each = targets["label"].shape[1] if targets["label"].ndim > 1 else 1
        count = float(targets["weight"].sum()) * each
        return Batch(inputs=arrays, targets=targets, count=count, rows=rows)

    def metrics(self) -> Sequence[Metric]:
        """One metric, which gives several values."""
        if self._target == "regression":
            return [RegressionMoments(shift=self.schema["mean"])]
        kind = Confusion if self._target == "class" else MultilabelCounts
        return [kind(self.schema["labels"])]

    def decode(self, outputs: Arrays, batch: Batch) -> list[Prediction]:
        """`label`, `score` and `scores`; `labels`, `scores` and `probabilities`; or `value`."""
        logits = _mean(outputs["logits"], batch.rows).astype(np.float64)
        if self._target == "regression":
            return [Prediction(value=float(value)) for value in logits.reshape(-1)]
        one = self._target == "class"
        probabilities = (_softmax(logits) if one else _sigmoid(logits)).tolist()
        rows = [dict(zip(self.schema["labels"], row, strict=True)) for row in probabilities]
        return [_best(row) if one else _likely(row) for row in rows]

    def gold(self, batch: Batch) -> list[Prediction]:
        """The label, the labels or the number of each row."""
        labels, targets = self.schema["labels"], batch.targets["label"].tolist()
        if self._target == "regression":
            return [Prediction(value=value) for value in targets]
        if self._target == "class":
            return [Prediction(label=labels[label]) for label in targets]
        return [
            Prediction(labels=[labels[at] for at, has in enumerate(row) if has]) for row in targets
        ]

    def _id(self, row: Row, label: str) -> int:
        labels = self.schema["labels"]
        place = bisect_left(labels, label)
        if place == len(labels) or labels[place] != label:
            raise DataError(
                row.address,
                column=self._task.column,
                value=label,
                problem=f"is not one of the {len(labels)} labels",
                suggestion=closest(label, labels),
                remedy=cells.NUMBERS if label.isdecimal() and int(label) < len(labels) else "",
            )
        return place


def _mean(logits: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """The mean over each sample's windows: [rows, size] and [samples] give [samples, size]."""
    if rows is None:
        return logits
    sums = np.zeros((len(rows), logits.shape[1]), logits.dtype)
    # One window after the other, as the objective adds them: what is written agrees with metrics.
    np.add.at(sums, np.repeat(np.arange(len(rows)), rows), logits)
    means: np.ndarray = sums / rows[:, None].astype(logits.dtype)
    return means


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
