"""The rows that `nlpkit predict` is given: TEXTs, a file, or standard input."""

from __future__ import annotations

import io
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlpkit.config.resolve import build
from nlpkit.config.schema import Component
from nlpkit.contracts import Row
from nlpkit.errors import DataError, InputError, closest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Source


def rows_of(
    model: Model, texts: tuple[str, ...], source: str | None, columns: tuple[str, ...]
) -> Iterator[Row | DataError]:
    """Rows with the task's text columns, and the errors of broken ones.

    Args:
        model: Whose task says which columns.
        texts: TEXTs of the command line; none: those of `source`.
        source: A file; None: standard input.
        columns: The file's columns of texts; none: the task's own.

    Raises:
        DataError: Nothing can be read, or a column is missing.
    """
    wanted = tuple(model.task.text_columns)
    if source is not None and Path(source).suffix != ".txt":
        yield from _file_rows(model, source, columns or wanted)
        return
    if columns:
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
    for number, text in enumerate(_text_lines(source), start=1):
        yield Row({wanted[0]: text}, f"{place}:{number}")


def _file_rows(model: Model, location: str, columns: tuple[str, ...]) -> Iterator[Row | DataError]:
    """The rows of a file under the task's names of columns, which the first row must have."""
    wanted = tuple(model.task.text_columns)
    if len(columns) != len(wanted):
        raise click.UsageError(f"--column: the task takes {len(wanted)} columns of texts")
    files: Source = build(Component(name="files"), "source", model.host)
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


def _text_lines(path: str | None) -> Iterator[str]:
    place = path or "standard input"
    if path is None and isinstance(sys.stdin, io.TextIOWrapper):  # the locale has no say in it
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict")
    try:
        opened = Path(path).open(encoding="utf-8-sig") if path else nullcontext(sys.stdin)
        with opened as file:
            yield from (line.rstrip("\r\n") for line in file)
    except OSError as error:
        raise InputError(f"{place}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: is not UTF-8 ({error})") from None
