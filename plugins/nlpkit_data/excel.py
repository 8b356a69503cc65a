"""Workbooks of Excel: a sheet, row by row; its first row that is not empty is the header."""

from __future__ import annotations

import datetime
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

from nlpkit.contracts import Row
from nlpkit.data.rows import plain
from nlpkit.errors import DataError, closest
from nlpkit_data.delimited import check_unnamed, checked_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from python_calamine import CalamineSheet

    from nlpkit_data.config import FilesConfig

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
        where, header = f"{address}:{sheet.name}", dict[int, str]()
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
    except Exception as error:  # damage shows in calamine's own classes, and in some of Python's
        problem = f"is not a whole .xlsx file ({error})"
        raise DataError(address, problem=problem, remedy=_REMEDY) from None


def _opened(file: IO[bytes], address: str) -> CalamineWorkbook:
    if file.read(len(_OLD)) == _OLD:
        problem = "is a workbook of Excel before 2007, or has a password"
        raise DataError(address, problem=problem, remedy=_REMEDY)
    file.seek(0)
    return CalamineWorkbook.from_filelike(file)


def _chosen(book: CalamineWorkbook, name: str | None, address: str) -> CalamineSheet:
    """The sheet of this name, else the only one that shows something."""
    found = [each for each in book.sheets_metadata if each.typ == SheetTypeEnum.WorkSheet]
    names = [each.name for each in found]
    if name is not None:
        if name in names:
            return book.get_sheet_by_name(name)
        guess, remedy = closest(name, names), f"its sheets are: {', '.join(names)}"
        problem = f'has no sheet "{name}"'
        raise DataError(address, problem=problem, suggestion=guess, remedy=remedy)
    shown = [each.name for each in found if each.visible == SheetVisibleEnum.Visible]
    sheets = list(map(book.get_sheet_by_name, shown))
    filled = [sheet for sheet in sheets if any(map(_is_filled, _rows(sheet)))] or sheets[:1]
    if len(filled) == 1:
        return filled[0]
    titles = [sheet.name for sheet in filled]
    problem = f"has {len(titles)} sheets with rows: {', '.join(titles)}"
    raise DataError(address, problem=problem, remedy=f"name one, data.sheet: {titles[0]}")


def _rows(sheet: CalamineSheet) -> Iterator[list[Any]]:
    """Values by row, from row 1 and column A on; rows that are missing come as empty ones."""
    before = [None] * (sheet.start[1] if sheet.start else 0)
    for row in sheet.iter_rows():
        yield [*before, *map(_value, row)]


def _value(cell: Any) -> Any:
    """A cell, None where it is empty; whole numbers and days come as a float and a date."""
    if cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if type(cell) is datetime.date:
        return datetime.datetime.combine(cell, datetime.time())
    return cell


def _is_filled(cells: Sequence[Any]) -> bool:
    return any(cell is not None for cell in cells)


def _header(cells: Sequence[Any], address: str) -> dict[int, str]:
    """The names of columns by their place; a column may have none."""
    named = {at: cell for at, cell in enumerate(cells) if cell is not None}
    names = [str(name) for name in plain(named, address).values()]
    return dict(zip(named, checked_header(names, address), strict=True))


def _row(header: Mapping[int, str], cells: Sequence[Any], address: str) -> Row | DataError:
    given = {at: cell for at, cell in enumerate(cells) if cell is not None}
    try:
        check_unnamed(given, header, address)
    except DataError as error:
        return error
    return Row(plain({name: given.get(at) for at, name in header.items()}, address), address)
