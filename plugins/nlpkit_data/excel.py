"""Workbooks of Excel: a sheet, row by row; its first row that is not empty is the header."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from openpyxl import load_workbook
from openpyxl.utils import get_column_letter

from nlpkit.contracts import Row
from nlpkit.data.rows import plain
from nlpkit.errors import DataError, closest
from nlpkit_data.delimited import checked_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit_data.config import FilesConfig

_BLOCK = 256  # rows read together
_OLD = b"\xd0\xcf\x11\xe0"  # how .xls begins, and a workbook with a password
_REMEDY = "save it in Excel as .xlsx, without a password"


def read(file: IO[bytes], address: str, options: FilesConfig) -> Iterator[Row | DataError]:
    """The rows of a sheet, addressed by file, sheet and Excel's own number of the row.

    Values are those of rows in memory: a date is text, an empty cell null, and so is an error such
    as #N/A; a formula is what Excel last computed.

    Raises:
        DataError: It is no whole workbook, the sheet is not there or not named, or its header is
            unusable.
    """
    with _readable(address):
        book = _opened(file, address)
        sheet = _chosen(book, options.sheet, address)
        where, header = f"{address}:{sheet.title}", dict[int, str]()
        for number, cells in enumerate(_rows(sheet), 1):
            if header and _is_filled(cells):
                yield _row(header, cells, f"{where}:{number}")
            elif _is_filled(cells):
                header = _header(cells, f"{where}:{number}")
        if not header:
            remedy = "it needs a header and rows"
            raise DataError(where, problem="the sheet is empty", remedy=remedy)


@contextmanager
def _readable(address: str) -> Iterator[None]:
    try:
        yield
    except (DataError, OSError):
        raise
    except Exception as error:  # damage shows in zip, XML and openpyxl's own classes
        problem = f"is not a whole .xlsx file ({type(error).__name__}: {error})"
        raise DataError(address, problem=problem, remedy=_REMEDY) from None


def _opened(file: IO[bytes], address: str) -> Any:
    if file.read(len(_OLD)) == _OLD:
        problem = "is a workbook of Excel before 2007, or has a password"
        raise DataError(address, problem=problem, remedy=_REMEDY)
    file.seek(0)
    with warnings.catch_warnings(action="ignore"):  # of styles and what else is not read
        return load_workbook(file, read_only=True, data_only=True)


def _chosen(book: Any, name: str | None, address: str) -> Any:
    """The sheet of this name, else the only one that shows something."""
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if name is not None:
        if name in sheets:
            return sheets[name]
        guess, remedy = closest(name, sheets), f"its sheets are: {', '.join(sheets)}"
        problem = f'has no sheet "{name}"'
        raise DataError(address, problem=problem, suggestion=guess, remedy=remedy)
    filled = [sheet for sheet in sheets.values() if sheet.sheet_state == "visible"]
    filled = [sheet for sheet in filled if any(map(_is_filled, _rows(sheet)))] or filled[:1]
    if len(filled) == 1:
        return filled[0]
    titles = [sheet.title for sheet in filled]
    problem = f"has {len(titles)} sheets with rows: {', '.join(titles)}"
    raise DataError(address, problem=problem, remedy=f"name one, data.sheet: {titles[0]}")


def _rows(sheet: Any) -> Iterator[list[Any]]:
    """Values by row; rows that are missing come as empty ones."""
    sheet.reset_dimensions()  # some programs write wrong ones, which would cut rows off
    rows = sheet.iter_rows()
    while True:
        with warnings.catch_warnings(action="ignore"):
            block = list(islice(rows, _BLOCK))
        if not block:
            return
        yield from ([_value(cell) for cell in row] for row in block)


def _value(cell: Any) -> Any:
    return None if cell.data_type == "e" or cell.value == "" else cell.value


def _is_filled(cells: Sequence[Any]) -> bool:
    return any(cell is not None for cell in cells)


def _header(cells: Sequence[Any], address: str) -> dict[int, str]:
    """The names of columns by their place; a column may have none."""
    named = {at: cell for at, cell in enumerate(cells) if cell is not None}
    names = [str(name) for name in plain(named, address).values()]
    return dict(zip(named, checked_header(names, address), strict=True))


def _row(header: Mapping[int, str], cells: Sequence[Any], address: str) -> Row | DataError:
    given = {at: cell for at, cell in enumerate(cells) if cell is not None}
    if unnamed := given.keys() - header.keys():
        problem = f"has a value in column {get_column_letter(min(unnamed) + 1)}, which has no name"
        return DataError(address, problem=problem, remedy="name it in the header, or clear it")
    try:
        values = plain({name: given.get(at) for at, name in header.items()}, address)
    except DataError as error:
        return error
    return Row(values, address)
