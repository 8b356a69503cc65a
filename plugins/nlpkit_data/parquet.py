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


def _mappings(piece: Any) -> Iterable[dict[str, Any] | ValueError]:
    try:
        return list(piece.to_pylist())
    except ValueError:  # such as text that is not UTF-8; whose?
        return [_mapping(piece.slice(at, 1)) for at in range(piece.num_rows)]


def _mapping(row: Any) -> dict[str, Any] | ValueError:
    try:
        return dict(row.to_pylist()[0])
    except ValueError as error:
        return error


def _row(
    values: dict[str, Any] | ValueError, names: classes.Names, address: str
) -> Row | DataError:
    if isinstance(values, UnicodeDecodeError):
        return DataError(address, problem="holds text that is not UTF-8")
    if isinstance(values, ValueError):
        return DataError(address, problem=f"cannot be read ({values})")
    return Row(classes.named(plain(values, address), names, address), address)
