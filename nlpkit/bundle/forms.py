"""Files of predictions: JSON lines, csv or tsv, and the columns of the input that they keep."""

from __future__ import annotations

import codecs
import csv
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from nlpkit.bundle.fields import fields
from nlpkit.errors import DataError, InputError
from nlpkit.files import check_local, json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nlpkit.bundle.predict import Model

Line = dict[str, Any]

ENCODINGS = ("utf-8", "utf-8-sig")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}  # by the suffix; the others are JSON lines


def check_output(path: Path | None, encoding: str = "utf-8") -> None:
    """Raises InputError where no file of predictions can be of this name or encoding."""
    if encoding not in ENCODINGS:
        raise InputError(f'encoding "{encoding}" is none of {", ".join(ENCODINGS)}')
    if encoding != "utf-8" and (path is None or path.suffix not in _DELIMITERS):
        raise InputError(f"encoding {encoding} is for an output=FILE that is csv or tsv")
    if path is None:
        return
    if path.suffix not in (".jsonl", *_DELIMITERS):
        raise InputError(f"output=FILE {path}: must end in .jsonl, .csv or .tsv")
    check_local(path, "output=FILE")
    if not path.parent.is_dir():
        raise InputError(f"output=FILE {path}: there is no folder {path.parent}")
    try:
        if path.is_dir():
            raise InputError(f"output=FILE {path}: is a folder; name a file in it")
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"):
            pass
    except OSError as error:
        raise InputError(f"output=FILE {path}: {error.strerror}") from None


def fields_of(model: Model, top_k: int | None = None) -> list[str]:
    """The names that a model's predictions have in a line, found with one."""
    names = model.columns
    (prediction,) = model.predict(
        ["text" if len(names) == 1 else ("text",) * len(names)], top_k=top_k
    )
    return list(fields(prediction, top_k, model.codec.ranked))


def kept_of(values: Mapping[str, Any], keep: Sequence[str]) -> Line:
    """The cells of a row that are kept; those that cannot be read are None."""
    cells = {name: values.get(name) for name in keep}
    return {name: None if isinstance(cell, DataError) else cell for name, cell in cells.items()}


def form_of(
    output: Path | None,
    columns: Callable[[], Sequence[str]],
    encoding: str = "utf-8",
    *,
    keep: Sequence[str] = (),
) -> Form:
    """JSON lines, csv or tsv by the suffix.

    Args:
        output: The file; None: JSON lines.
        columns: Gives the names of a line's own fields, in order, where they are needed.
        encoding: Of a csv or tsv.
        keep: Columns of the input that stand before them.

    Raises:
        InputError: A column that is to be kept has the name of one of them.
    """
    delimiter = _DELIMITERS.get(output.suffix) if output else None
    if not (delimiter or keep):
        return _JsonLines()
    own = columns()
    if taken := [name for name in keep if name in own]:
        raise InputError(
            f'keep=NAMES: "{taken[0]}" is what the output calls a column of its own; rename it in '
            "the input"
        )
    return _Csv([*keep, *own], encoding, delimiter) if delimiter else _JsonLines()


_JSON = (list, dict, bool)


class _JsonLines:
    head = b""

    def record(self, line: Line) -> bytes:
        return f"{json_text(line)}\n".encode(errors="backslashreplace")


class _Csv:
    """Cells that are no text or number are JSON, so that a program can read them back."""

    def __init__(self, columns: Sequence[str], encoding: str, delimiter: str) -> None:
        self._columns = columns
        # csv quotes the characters of the line's end; a lone carriage return has to be quoted too.
        echo = SimpleNamespace(write=str)  # the writer returns what this does
        self._writer = csv.writer(echo, delimiter=delimiter, lineterminator="\r\n")
        mark = codecs.BOM_UTF8 if encoding == "utf-8-sig" else b""
        self.head = mark + self._row(columns)

    def record(self, line: Line) -> bytes:
        cells = (line.get(name) for name in self._columns)
        return self._row([json_text(cell) if isinstance(cell, _JSON) else cell for cell in cells])

    def _row(self, cells: Sequence[object]) -> bytes:
        text: Any = self._writer.writerow(cells)
        return f"{text[:-2]}\n".encode(errors="backslashreplace")


Form = _JsonLines | _Csv
"""How lines are written. A record is the bytes of a line; `head` stands before the first."""
