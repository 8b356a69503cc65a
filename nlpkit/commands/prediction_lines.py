"""The lines that `nlpkit predict` writes: what is in them, and their bytes in a file."""

from __future__ import annotations

import codecs
import csv
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from nlpkit.bundle.predict import WINDOW, fields
from nlpkit.contracts import Row
from nlpkit.errors import DataError, InputError
from nlpkit.files import json_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from nlpkit.bundle.predict import Model

Line = dict[str, Any]
Given = Row | DataError

BATCH = 64
ROWS = WINDOW * BATCH
"""Rows of a window."""
DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""What separates the cells of an output, by its suffix; the others are JSON lines."""


class Lines:
    """The lines of the output, one for each row and in its order.

    Args:
        model: Predicts them.
        rows: Rows of texts, and the errors of broken ones.
        top_k: How many labels "top" has; None: there is no "top".
        keep: Columns of the input that stand before the text.

    Attributes:
        rows: Those whose lines are to come.
        total: Rows so far.
        bad: Those that could not be predicted.
    """

    def __init__(
        self, model: Model, rows: Iterable[Given], *, top_k: int | None, keep: Sequence[str] = ()
    ) -> None:
        self.rows = rows
        self.total = self.bad = 0
        self._model, self._top_k, self._keep = model, top_k, keep
        self._waiting: deque[Given] = deque()
        self._first: DataError | None = None

    def __iter__(self) -> Iterator[Line]:
        outcomes = self._model.outcomes(self._noted(), batch_size=BATCH, top_k=self._top_k)
        columns = self._model.task.text_columns
        for outcome in outcomes:
            known = known_of(self._waiting.popleft(), columns, self._keep)
            self.total += 1
            if isinstance(outcome, DataError):
                self.bad += 1
                self._first = self._first or outcome
                yield {**known, "error": str(outcome)}
            else:
                yield {**known, **fields(outcome, self._top_k)}

    def check(self, place: str) -> None:
        """Raises what is wrong with the first text of `place` if none could be predicted."""
        if not self.total:
            raise InputError(f"{place}: has no texts")
        if self.bad == self.total:
            raise self._first or InputError(f"{place}: no text of it can be predicted")

    def _noted(self) -> Iterator[Given]:
        for row in self.rows:
            self._waiting.append(row)
            yield row


def known_of(row: Given, columns: Sequence[str], keep: Sequence[str]) -> Line:
    """What a line has before it is predicted: what is kept, and the text, or a list of them."""
    kept = getattr(row, "kept", {})
    line = {name: _read(kept.get(name)) for name in keep}
    if isinstance(row, DataError):
        return {**line, "text": None}
    texts = [_read(row.values[column]) for column in columns]
    return {**line, "text": texts[0] if len(texts) == 1 else texts}


def _read(cell: Any) -> Any:
    return None if isinstance(cell, DataError) else cell


class Form(Protocol):
    """How lines are written, and found again. A record is the bytes of a line."""

    head: bytes

    def record(self, line: Line) -> bytes:
        """A line, with its end."""

    def start(self, known: Line) -> bytes:
        """What the record of a line begins with, of which this much is known."""

    def bad(self, record: bytes, start: bytes) -> bool:
        """Whether a record has an error."""

    def records(self, file: BinaryIO) -> Iterator[bytes]:
        """The whole records of a file; one that is cut is none."""


def form_of(
    output: Path | None,
    model: Model,
    top_k: int | None,
    encoding: str = "utf-8",
    *,
    keep: Sequence[str] = (),
) -> Form:
    """JSON lines, csv or tsv by the suffix: a prediction of the model says which columns it has.

    Raises:
        InputError: A column that is to be kept has the name of one of them.
    """
    delimiter = DELIMITERS.get(output.suffix) if output else None
    if not (delimiter or keep):
        return _JsonLines()
    names = model.task.text_columns
    text = "text" if len(names) == 1 else tuple(names)
    (prediction,) = model.predict([text], top_k=top_k)
    columns = ["text", *fields(prediction, top_k), "error"]
    if taken := [name for name in keep if name in columns]:
        raise InputError(
            f"--keep {taken[0]}: is what the output calls a column of its own; rename it in the "
            "input"
        )
    return _Csv([*keep, *columns], encoding, len(keep), delimiter) if delimiter else _JsonLines()


_JSON = (list, dict, bool)


class _JsonLines:
    head = b""

    def record(self, line: Line) -> bytes:
        return f"{json_text(line)}\n".encode(errors="backslashreplace")

    def start(self, known: Line) -> bytes:
        return self.record(known)[:-2] + b", "

    def bad(self, record: bytes, start: bytes) -> bool:
        return record.startswith(b'"error": ', len(start))

    def records(self, file: BinaryIO) -> Iterator[bytes]:
        return (line for line in file if line.endswith(b"\n"))


class _Csv:
    """Cells that are no text or number are JSON, so that a program can read them back."""

    def __init__(self, columns: Sequence[str], encoding: str, kept: int, delimiter: str) -> None:
        self._columns, self._after = columns, len(columns) - kept
        self._delimiter = delimiter.encode()
        # csv quotes the characters of the line's end; a lone carriage return has to be quoted too.
        self._writer = csv.writer(_Echo(), delimiter=delimiter, lineterminator="\r\n")
        mark = codecs.BOM_UTF8 if encoding == "utf-8-sig" else b""
        self.head = mark + self._row(columns)

    def record(self, line: Line) -> bytes:
        cells = (line.get(name) for name in self._columns)
        return self._row([json_text(cell) if isinstance(cell, _JSON) else cell for cell in cells])

    def start(self, known: Line) -> bytes:
        return self.record(known)[: -self._after] + self._delimiter

    def bad(self, record: bytes, start: bytes) -> bool:
        return not record.endswith(self._delimiter + b"\n")

    def records(self, file: BinaryIO) -> Iterator[bytes]:
        record, quotes = b"", 0
        for line in file:
            record, quotes = record + line, quotes + line.count(b'"')
            if quotes % 2 == 0 and line.endswith(b"\n"):  # else it ends inside a quoted cell
                yield record
                record = b""

    def _row(self, cells: Sequence[object]) -> bytes:
        text: Any = self._writer.writerow(cells)
        return f"{text[:-2]}\n".encode(errors="backslashreplace")


class _Echo:
    """A file for csv's writer, which returns what this returns."""

    def write(self, text: str) -> str:
        """Gives back what it is given."""
        return text
