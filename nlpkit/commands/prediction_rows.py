"""The rows that `nlpkit predict` is given: TEXTs, a file, or standard input."""

from __future__ import annotations

import io
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from nlpkit.bundle.load import data_of
from nlpkit.config.resolve import build
from nlpkit.config.schema import Component
from nlpkit.contracts import Row
from nlpkit.data.encoding import AUTO, LONGEST, lines
from nlpkit.data.opening import opened, path_of
from nlpkit.data.rows import check_columns, remarks
from nlpkit.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Source

_TRIED = 20  # rows of a file, to see whether it is as the run's config says


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says of texts.

    Attributes:
        texts: TEXTs; none: those of `source`.
        source: A file; None: standard input.
        columns: The file's columns of texts; none: the task's own.
        keep: Columns of the file that the output has too.
        input_encoding: Of the file.
        delimiter: Of a csv file.
        quotes: "none" where they mean nothing in it.
        sheet: Of a workbook, or None.
        remarks: Gets what is odd about the file, each once.
    """

    texts: tuple[str, ...] = ()
    source: str | None = None
    columns: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    input_encoding: str = AUTO
    delimiter: str = AUTO
    quotes: str = AUTO
    sheet: str | None = None
    remarks: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class KeptRow(Row):
    """A row of texts, with the values of the columns that are kept."""

    kept: Mapping[str, Any] = field(default_factory=dict)


def rows_of(model: Model, given: Asked) -> Iterator[Row | DataError]:
    """Rows with the text columns of the model's task, and the errors of broken ones.

    Raises:
        DataError: Nothing can be read, or a column is missing.
    """
    wanted, texts, source = model.columns, given.texts, given.source
    if source is not None and Path(path_of(source)).suffix != ".txt":
        try:
            yield from _file_rows(model, source, given)
        except DataError as error:
            raise _renamed(error) from None
        return
    if given.columns or given.keep:
        option = "--column" if given.columns else "--keep"
        raise click.UsageError(f"{option} is for an --input with columns")
    if texts:
        if len(texts) % len(wanted):
            raise click.UsageError(f"the task takes pairs: {len(texts)} TEXTs are not pairs")
        try:  # the locale has no say in it: where it lacks letters, their bytes stand in a TEXT
            texts = tuple(text.encode(errors="surrogateescape").decode() for text in texts)
        except UnicodeError:
            raise InputError("a TEXT is not UTF-8") from None
        for number, start in enumerate(range(0, len(texts), len(wanted)), start=1):
            values = texts[start : start + len(wanted)]
            yield Row(dict(zip(wanted, values, strict=True)), f"TEXT {number}")
        return
    if len(wanted) > 1:
        raise click.UsageError("the task takes pairs: give --input FILE with two columns")
    place = source or "standard input"
    for number, text in enumerate(_text_lines(source, given.input_encoding), start=1):
        if len(text) > LONGEST:  # and is not whole, maybe
            yield DataError(f"{place}:{number}", problem=f"has more than {LONGEST:,} characters")
        else:
            yield Row({wanted[0]: text}, f"{place}:{number}")


def _file_rows(model: Model, location: str, given: Asked) -> Iterator[Row | DataError]:
    """The rows of a file under the task's names of columns, which the first row must have."""
    wanted = model.columns
    columns = given.columns or wanted
    if len(columns) != len(wanted):
        raise click.UsageError(f"--column: the task takes {len(wanted)} columns of texts")
    options = {"encoding": given.input_encoding, "sheet": given.sheet}
    options |= {"delimiter": given.delimiter, "quotes": given.quotes}
    files = _files(model, {**options, **_of_run(model, options, columns, location)})
    table = Path(path_of(location).lower().removesuffix(".gz")).suffix in (".csv", ".tsv")
    checked, several, first = False, 0, ""
    for row in files.rows(location):
        if isinstance(row, DataError):
            yield row
            continue
        if not checked:
            check_columns(row, columns, location, "choose with --column")
            check_columns(row, given.keep, location, "choose with keep=NAMES")
            checked = True
        values, kept = ([row.values.get(name) for name in names] for names in (columns, given.keep))
        if table and any("\n" in value for value in values if isinstance(value, str)):
            first, several = first or row.address, several + 1
        texts = dict(zip(wanted, values, strict=True))
        yield KeptRow(texts, row.address, dict(zip(given.keep, kept, strict=True)))
    for remark in remarks(files):
        given.remarks[f"warning: {_named(str(remark))}"] = None
    if several:
        count = "1 text has" if several == 1 else f"{several:,} texts have"
        given.remarks[f"{count} several lines, the first at {first}"] = None


def _files(model: Model, options: Mapping[str, Any]) -> Source:
    source: Source = build(Component(name="files", **options), "source", model.host)
    return source


def _of_run(
    model: Model, options: Mapping[str, Any], columns: Sequence[str], location: str
) -> dict[str, Any]:
    """How the run's config says that a csv is separated and quoted, if this one is.

    That shows where the first rows have the columns; a pipe, which is read but once, is not tried.
    """
    try:
        data = data_of(model.bundle)
        given = data.options if data and data.name == "files" else {}
        names = [name for name in ("delimiter", "quotes") if options[name] == AUTO]
        own = {name: given[name] for name in names if given.get(name, AUTO) != AUTO}
        if own and not Path(location).is_fifo():
            rows = islice(_files(model, {**options, **own}).rows(location), _TRIED)
            if any(isinstance(row, Row) and {*columns} <= row.values.keys() for row in rows):
                return own
    except InputError:  # reading the file says what is wrong with it
        pass
    return {}


def _text_lines(path: str | None, encoding: str) -> Iterator[str]:
    place = path or "standard input"
    try:
        with opened(path, place) if path else _standard_input() as file:
            for line in lines(file, place, encoding):
                yield from (text.rstrip("\n") for text in io.StringIO(line, newline=None))
    except OSError as error:
        raise InputError(f"{place}: {error.strerror}") from None
    except DataError as error:
        raise _renamed(error) from None


def _standard_input() -> AbstractContextManager[IO[bytes]]:
    if isinstance(sys.stdin, io.TextIOWrapper):  # its bytes: the locale has no say in it
        return nullcontext(sys.stdin.buffer)
    return io.BytesIO(sys.stdin.read().encode())


def _renamed(error: DataError) -> DataError:
    """The error of a source, whose options have other names on the command line."""
    return error.advising(_named(error.remedy))


def _named(text: str) -> str:
    for key in ("delimiter", "quotes", "sheet", "encoding"):
        option = "--input-encoding" if key == "encoding" else f"--{key}"
        text = text.replace(f"data.{key}: ", f"{option} ").replace(f"data.{key}", option)
    return text
