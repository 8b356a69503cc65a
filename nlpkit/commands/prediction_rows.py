"""The rows that `nlpkit predict` is given: TEXTs, a file, or standard input."""

from __future__ import annotations

import io
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from nlpkit.config.resolve import build
from nlpkit.config.schema import Component
from nlpkit.contracts import Row
from nlpkit.data.encoding import AUTO, lines
from nlpkit.errors import DataError, InputError, closest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Source


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says of texts.

    Attributes:
        texts: TEXTs; none: those of `source`.
        source: A file; None: standard input.
        columns: The file's columns of texts; none: the task's own.
        encoding: Of the file.
        sheet: Of a workbook, or None.
    """

    texts: tuple[str, ...] = ()
    source: str | None = None
    columns: tuple[str, ...] = ()
    encoding: str = AUTO
    sheet: str | None = None


def rows_of(model: Model, given: Asked) -> Iterator[Row | DataError]:
    """Rows with the text columns of the model's task, and the errors of broken ones.

    Raises:
        DataError: Nothing can be read, or a column is missing.
    """
    wanted, texts, source = tuple(model.task.text_columns), given.texts, given.source
    if source is not None and Path(source).suffix != ".txt":
        try:
            yield from _file_rows(model, source, given)
        except DataError as error:
            raise _renamed(error) from None
        return
    if given.columns:
        raise click.UsageError("--column is for an --input with columns")
    if texts:
        if len(texts) % len(wanted):
            raise click.UsageError(f"the task takes pairs: {len(texts)} TEXTs are not pairs")
        if any("\udc80" <= letter <= "\udcff" for letter in "".join(texts)):
            raise InputError("a TEXT is not UTF-8")  # such letters stand for the bytes that are not
        for number, start in enumerate(range(0, len(texts), len(wanted)), start=1):
            values = texts[start : start + len(wanted)]
            yield Row(dict(zip(wanted, values, strict=True)), f"TEXT {number}")
        return
    if len(wanted) > 1:
        raise click.UsageError("the task takes pairs: give --input FILE with two columns")
    place = source or "standard input"
    for number, text in enumerate(_text_lines(source, given.encoding), start=1):
        yield Row({wanted[0]: text}, f"{place}:{number}")


def _file_rows(model: Model, location: str, given: Asked) -> Iterator[Row | DataError]:
    """The rows of a file under the task's names of columns, which the first row must have."""
    wanted = tuple(model.task.text_columns)
    columns = given.columns or wanted
    if len(columns) != len(wanted):
        raise click.UsageError(f"--column: the task takes {len(wanted)} columns of texts")
    options = {"encoding": given.encoding, "sheet": given.sheet}
    files: Source = build(Component(name="files", **options), "source", model.host)
    checked = False
    for row in files.rows(location):
        if isinstance(row, DataError):
            yield row
            continue
        if not checked:
            _check_columns(row, columns, location)
            checked = True
        values = [row.values.get(column) for column in columns]
        yield Row(dict(zip(wanted, values, strict=True)), row.address)


def _check_columns(row: Row, columns: tuple[str, ...], location: str) -> None:
    for column in columns:
        if column not in row.values:
            names = [str(name) for name in row.values]
            raise DataError(
                location,
                column=column,
                problem="does not exist",
                suggestion=closest(column, names),
                remedy=f"the columns are: {', '.join(names)}; choose with --column",
            )


def _text_lines(path: str | None, encoding: str) -> Iterator[str]:
    place = path or "standard input"
    try:
        with _opened(path) as file:
            for line in lines(file, place, encoding):
                yield from (text.rstrip("\n") for text in io.StringIO(line, newline=None))
    except OSError as error:
        raise InputError(f"{place}: {error.strerror}") from None
    except DataError as error:
        raise _renamed(error) from None


def _opened(path: str | None) -> AbstractContextManager[IO[bytes]]:
    if path:
        return Path(path).open("rb")
    if isinstance(sys.stdin, io.TextIOWrapper):  # its bytes: the locale has no say in it
        return nullcontext(sys.stdin.buffer)
    return io.BytesIO(sys.stdin.read().encode())


def _renamed(error: DataError) -> DataError:
    """The error of a source, whose options have other names on the command line."""
    remedy = error.remedy
    for key, option in {"data.encoding": "--input-encoding", "data.sheet": "--sheet"}.items():
        remedy = remedy.replace(f"{key}: ", f"{option} ").replace(key, option)
    return error.advising(remedy)
