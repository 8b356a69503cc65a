"""What the gate of exports asks: the same texts of a model and, in a fresh process, of its export.

`python -m nlpkit.bundle.gate EXPORT FOLDER` is the fresh process. It knows nothing but the export:
its tokenizer, its task, its model, as its exporter opens it. `parity` compares the answers.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.bundle.load import load
from nlpkit.contracts import Batch, Row
from nlpkit.data.plan import cut
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit.bundle.predict import Model

QUESTIONS = "questions.json"

BATCHES = (1, 2, 3, 17)
_LENGTHS = (1, 7)
_TOGETHER = 64
_SIZES = (1, 5)
"""Rows that each length is asked with: code may branch on both."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Texts that go through the model together.

    Attributes:
        rows: Their places among the questions' rows.
        length: Tokens that the batch is cut or padded to, and so one window of each text; None: as
            long as its texts are.
        alone: Whether it is a text that is asked among others too; several rows are copies of it.
    """

    rows: Sequence[int]
    length: int | None = None
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Questions:
    """All that is asked: texts by column, and what goes together."""

    rows: Sequence[Mapping[str, Any]]
    cases: Sequence[Case]

    def save(self, folder: Path) -> None:
        """Writes them for the other process."""
        text = json.dumps(asdict(self), ensure_ascii=False)
        (folder / QUESTIONS).write_text(text, encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> Questions:
        """Reads them."""
        found = json.loads((folder / QUESTIONS).read_text(encoding="utf-8"))
        return cls(rows=found["rows"], cases=[Case(**case) for case in found["cases"]])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says to a case.

    Attributes:
        inputs: A hash of the arrays that the tokenizer and the task made of the texts.
        logits: What came out; None where it failed.
        error: Why it failed, or "".
        batch: The arrays themselves; None where the answer comes from another process.
    """

    inputs: str
    logits: np.ndarray | None
    error: str = ""
    batch: Batch | None = None


def questions(
    model: Model, texts: Sequence[Row], lengths: Sequence[int], *, alone: int
) -> Questions:
    """A grid of batch sizes and lengths (law 6), and texts, alone and beside others like them.

    Args:
        model: Says which columns hold the text, and what the longest input is.
        texts: Real rows, at least one.
        lengths: Their tokens.
        alone: How many of them, at most, are asked one by one as well; 0: one of each length, and
            copies of it together.
    """
    columns = model.columns
    rows = [{column: row.values[column] for column in columns} for row in texts]
    longest = model.bundle.vocabulary.max_length
    joined = _joined(model, rows[: max(BATCHES)], longest)
    count = len(rows)
    grid = [
        Case(
            rows=[
                (count if length == longest else 0) + place % len(joined) for place in range(size)
            ],
            length=length,
        )
        for size in BATCHES
        for length in sorted({*(min(each, longest) for each in _LENGTHS), longest})
    ]
    edges = [
        Case(rows=[count] * size, length=length) for size in _SIZES for length in _edges(longest)
    ]
    ordered = sorted(range(count), key=lambda place: len(str(rows[place])))
    pieces = cut(np.array(ordered), _TOGETHER)
    others = [Case(rows=piece.tolist()) for piece in pieces]
    chosen = (
        ordered[:: -(-count // alone)] if alone else {lengths[at]: at for at in ordered}.values()
    )
    sizes = (1,) if alone else _SIZES
    single = [Case(rows=[place] * size, alone=True) for size in sizes for place in chosen]
    return Questions(rows=[*rows, *joined], cases=[*grid, *edges, *others, *single])


def answers(model: Model, asked: Questions) -> Iterator[Answer]:
    """What a model says, case by case; a failure is an answer too."""
    for case in asked.cases:
        batch = _batch(model, asked, case)
        inputs = _hash(batch.inputs)
        try:
            logits = model.engine.run(batch.inputs)["logits"]
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            yield Answer(inputs=inputs, logits=None, error=reason)
        else:
            yield Answer(inputs=inputs, logits=logits, batch=batch)


def read_answers(folder: Path, asked: Questions) -> list[Answer]:
    """What the other process wrote."""
    lines = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    with np.load(folder / "logits.npz") as logits:
        return [
            Answer(**line, logits=logits[str(place)] if str(place) in logits else None)
            for place, line in zip(range(len(asked.cases)), lines, strict=True)
        ]


def _batch(model: Model, asked: Questions, case: Case) -> Batch:
    rows = [Row(asked.rows[place], f"text {place}") for place in case.rows]
    batch = model.batch(rows)
    if case.length is None:
        return batch
    tokens = batch.inputs["input_ids"].shape[1]
    counts = np.ones(len(rows), np.int64) if batch.rows is None else batch.rows
    starts = np.cumsum(counts) - counts
    inputs = {
        name: _fitted(array[starts], case.length) if array.shape[1:2] == (tokens,) else array
        for name, array in batch.inputs.items()
    }
    return replace(batch, inputs=inputs, rows=None)


def _fitted(array: np.ndarray, length: int) -> np.ndarray:
    cut = array[:, :length]
    rest = [(0, 0)] * (array.ndim - 2)
    return np.pad(cut, [(0, 0), (0, length - cut.shape[1]), *rest])


def _edges(longest: int) -> list[int]:
    """Lengths below the longest where code is most likely to branch: about the powers of 2."""
    powers = [1 << power for power in range(longest.bit_length() + 1)]
    near = {power + by for power in powers for by in (-1, 0, 1)}
    return sorted(length for length in near if 0 < length < longest)


def _joined(
    model: Model, rows: Sequence[Mapping[str, Any]], longest: int
) -> list[Mapping[str, Any]]:
    """For each row one that begins with its text, and goes on until it is as long as can be."""
    for count in (2**power for power in range(longest.bit_length() + 1)):
        joined: list[Mapping[str, Any]] = [
            {
                column: _sum([rows[(start + each) % len(rows)][column] for each in range(count)])
                for column in row
            }
            for start, row in enumerate(rows)
        ]
        try:
            tokens = model.batch([Row(joined[0], "")]).inputs["input_ids"].shape[1]
        except DataError:  # two of such texts are no text, JSON in a cell say
            return list(rows)
        if tokens >= longest:
            break
    return joined


def _sum(texts: Sequence[Any]) -> Any:
    if all(isinstance(text, str) for text in texts):
        return " ".join(texts)
    return [word for words in texts for word in words]


def _hash(inputs: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(inputs.items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> None:
    """Answers the questions in a folder with an export, whose plugins its caller trusts."""
    export, folder = map(Path, arguments)
    asked = Questions.open(folder)
    model = load(export, trust_plugins=True)
    given = list(answers(model, asked))
    logits = {str(at): each.logits for at, each in enumerate(given) if each.logits is not None}
    np.savez(folder / "logits.npz", **logits)  # type: ignore[arg-type]
    lines = [{"inputs": each.inputs, "error": each.error} for each in given]
    (folder / "answers.json").write_text(json.dumps(lines), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
