"""Parquet files: read a piece at a time, rows counted from 1."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import pyarrow
from pyarrow.parquet import ParquetFile

from nlpkit.contracts import Row
from nlpkit.data import classes
from nlpkit.data.rows import plain
from nlpkit.errors import DataError, shorten
from nlpkit_data.delimited import checked_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nlpkit_data.config import FilesConfig

_ROWS = 1024  # of a piece
_FAULTS = (ValueError, OverflowError)  # of a value: text that is not UTF-8, a date out of range


def read(file: IO[bytes], address: str, options: FilesConfig) -> Iterator[Row | DataError]:
    """The rows of a parquet file; values as those of rows in memory, classes by their names.

    Raises:
        DataError: It is no whole parquet file, or has two columns of one name.
    """
    number = 0
    try:
        table = ParquetFile(file)
        checked_header(table.schema_arrow.names, address)
        names = classes.of_metadata(table.schema_arrow.metadata)
        for piece in table.iter_batches(_ROWS):
            for values in _mappings(piece):
                number += 1
                yield _row(values, names, f"{address}:{number}")
    except (pyarrow.ArrowException, OSError) as error:
        after = f"; it can be read up to row {number:,}" if number else ""
        problem = f"is not a whole parquet file ({shorten(str(error), 120)})"
        remedy = f"write or copy it again{after}"
        raise DataError(address, problem=problem, remedy=remedy) from None


def _mappings(piece: Any) -> Iterable[dict[str, Any]]:
    try:
        return list(piece.to_pylist())
    except _FAULTS:  # whose?
        columns = dict(zip(piece.schema.names, piece.columns, strict=True))
        cells = ({name: _cell(columns[name], at) for name in columns} for at in range(len(piece)))
        return list(cells)


def _cell(column: Any, at: int) -> Any:
    try:
        return column[at].as_py()
    except _FAULTS as error:
        return error


def _row(values: dict[str, Any], names: classes.Names, address: str) -> Row:
    faults = {name: value for name, value in values.items() if isinstance(value, Exception)}
    known = plain({name: values[name] for name in values if name not in faults}, address)
    for name, fault in faults.items():
        known[name] = DataError(address, column=name, problem=_problem(fault))
    return Row(classes.named(known, names, address), address)


def _problem(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "holds text that is not UTF-8"
    return f"cannot be read ({error})"
