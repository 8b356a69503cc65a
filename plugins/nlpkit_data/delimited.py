"""Rows of csv and tsv files: what separates values, what quotes mean, and what is broken."""

from __future__ import annotations

import csv
import json
import re
import threading
from contextlib import suppress
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any

from nlpkit.contracts import Row
from nlpkit.data.encoding import AUTO, LONGEST, lines
from nlpkit.errors import DataError, Problem
from nlpkit_data.spans import BLANK_QUOTE, BREAK, Spans

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from nlpkit_data.config import FilesConfig

    Say = Callable[[Problem], None]
    Numbered = tuple[int, int, list[str] | csv.Error]  # a row's first and last line, and its cells

_ROWS = 16  # that are read together; any of them may be long
_FIRST, _EACH = 1000, 16  # all rows of the first lines are looked at, behind them of each so many
_SAMPLE = 20  # lines behind the header, where it holds several signs
_NAME = 200  # characters of a column's name with line breaks; a longer one swallowed rows
_UNCLOSED = "unexpected end of data"  # csv's words, as those below
_TOO_LONG = "field larger than field limit"
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEPARATOR = re.compile(r'("?)sep=(\\t|[^"])\1\s*', re.IGNORECASE)  # a first line that Excel reads
_QUOTED = re.compile(r'"[^"]*"?')
_SIGN = re.compile(r"\w\s*[^\w\s()\[\]'\"./-]\s*\w")  # in a name, one that may separate two
_LIMIT = threading.Lock()  # held while csv has our limit, which is the whole process's
_NO_QUOTES = "data.quotes: none, if quotes mean nothing here"


def read_csv(
    file: IO[bytes], address: str, options: FilesConfig, say: Say, *, usual: str = ","
) -> Iterator[Row | DataError]:
    """Rows of a csv file with a header; quoted values may hold line breaks and doubled quotes.

    Args:
        file: Its bytes.
        address: What errors begin with.
        options: Say how it is encoded, separated and quoted.
        say: Is told what is odd and stops nothing.
        usual: What separates the values of such files, where the header does not say it.

    Raises:
        DataError: The header is unusable, or a quote never closes: all rows behind it are lost.
    """
    cut: list[int] = []
    text = lines(file, address, options.encoding, cut)
    head, delimiter, skipped = _beginning(text, usual)
    if options.delimiter != AUTO:
        delimiter = options.delimiter
    elif delimiter != usual:
        say(_separated(address, delimiter))
    table = csv.reader(
        chain(head, text),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if options.quotes == "none" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    names: list[str] = []
    width = look = 0
    for line, last, cells in _limited(_numbered(table, skipped), cut):
        here = f"{address}:{line}"
        if isinstance(cells, csv.Error):
            broken, ends = _broken(str(cells), here, line, last)
            if ends or not names:
                raise broken from None
            yield broken
            continue
        if len(cells) != 1 and not any(cells):  # a blank line; Excel writes delimiters in it
            continue
        if names and not any(cells[len(names) :]):
            del cells[len(names) :]
        if not names:
            if any(map(str.strip, cells)):  # else it is a blank line
                names = _header(cells, here, last, delimiter)
                width = len(names) if all(names) else -1
                spans = Spans(address, delimiter, len(names))
        elif len(cells) == width and "\0" not in "".join(cells):
            if last > line or line >= look:
                spans.see(line, last, cells)
                look = line + (_EACH if line > _FIRST else 1)
            yield Row(dict(zip(names, cells)), here)  # noqa: B905 (as long; half the time)
        else:
            yield _odd(names, cells, here)
    if not names:
        raise DataError(address, problem="the file is empty", remedy="it needs a header and rows")
    spans.report(say)


def read_tsv(
    file: IO[bytes], address: str, options: FilesConfig, say: Say
) -> Iterator[Row | DataError]:
    """As csv, mostly with tabs."""
    return read_csv(file, address, options, say, usual="\t")


def _beginning(text: Iterator[str], usual: str) -> tuple[list[str], str, int]:
    """The first lines, what separates their values, and how many lines stood before them.

    What stands most often in the header separates, of what makes the rows as wide if any does.
    """
    head = list(islice(text, 1))
    if head and (named := _SEPARATOR.fullmatch(head[0])):
        return [], named[2].replace(r"\t", "\t"), 1
    while head and not head[-1].strip():
        if not (line := next(text, "")):
            break
        head.append(line)
    header = _QUOTED.sub("", head[-1] if head else "")
    found = [each for each in _NAMES if each in header] or [usual]
    found.sort(key=lambda each: (header.count(each), each == usual), reverse=True)
    if len(found) > 1:
        rows = list(islice(text, _SAMPLE))
        sample = head[-1:] + rows
        head += rows
        found = [each for each in found if _consistent(sample, each)] or found
    return head, found[0], 0


def _consistent(sample: Sequence[str], delimiter: str) -> bool:
    """Whether all rows of the first lines have as many cells as the header."""
    widths: list[int] = []
    with suppress(csv.Error):
        widths.extend(len(row) for row in csv.reader(sample, delimiter=delimiter) if row)
    whole = widths[:-1] if len(sample) > _SAMPLE else widths  # a quote may be open at the end
    return len(set(whole)) == 1


def _separated(address: str, delimiter: str) -> Problem:
    name = _NAMES.get(delimiter, f'"{delimiter}"')
    return Problem(
        address=address,
        message=f"its beginning says that {name} separate the values, and so it is read",
        remedy=f"data.delimiter: {json.dumps(delimiter)} says it for good",
        severity="warning",
    )


def _numbered(table: Any, skipped: int) -> Iterator[Numbered]:
    """Of each row of a csv.reader its first and last line, and its cells or what is wrong."""
    while True:
        line = table.line_num + skipped + 1
        try:
            cells: list[str] | csv.Error = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            cells = error
        yield line, table.line_num + skipped, cells


def _limited(rows: Iterator[Numbered], cut: Sequence[int]) -> Iterator[Numbered]:
    """The rows, some at a time, read while csv takes long fields; `cut` are lines not whole."""
    while True:
        with _LIMIT:
            before = csv.field_size_limit(LONGEST)
            try:
                block = list(islice(rows, _ROWS))
            finally:
                csv.field_size_limit(before)
        if not block:
            return
        if cut:
            error = csv.Error(_TOO_LONG)
            lost = [any(row[0] <= line <= row[1] for line in cut) for row in block]
            block = [
                (*row[:2], error) if bad else row for row, bad in zip(block, lost, strict=True)
            ]
        yield from block


def _broken(error: str, address: str, line: int, last: int) -> tuple[DataError, bool]:
    """A row's error from csv's text, and whether nothing behind it can be read."""
    lost = f"lines {line} to {last}" if last > line else ""
    if error == _UNCLOSED:
        problem = "a quote opens in this row and never closes"
        problem += f": it swallows {lost}" if lost else ""
        remedy = f"close it, or double it; {_NO_QUOTES}"
        return DataError(address, problem=problem, remedy=remedy), True
    if error.startswith(_TOO_LONG):
        problem = f"a value has more than {LONGEST:,} characters; is a quote open?"
        remedy = f"it goes on to line {last}; {_NO_QUOTES}" if lost else "shorten it"
        return DataError(address, problem=problem, remedy=remedy), bool(lost)
    if error.startswith("new-line character"):
        problem, remedy = "holds a lone carriage return", "quote the value"
        return DataError(address, problem=problem, remedy=remedy), False
    remedy = "quote whole values, and double the quotes in them"
    remedy += f"; {lost} are lost; {_NO_QUOTES}" if lost else ""
    return DataError(address, problem=f"is not valid ({error})", remedy=remedy), False


def _header(cells: list[str], address: str, last: int, delimiter: str) -> list[str]:
    """The names of columns; one that was broken by Alt+Enter keeps its breaks, as in a workbook."""
    names = [BREAK.sub("\n", cell) for cell in cells]
    if any("\n" in name and (delimiter in name or len(name) > _NAME) for name in names):
        problem = f"a quote opens in the header and goes on to line {last}"
        remedy = f"close it, or double it; names of columns are short; {_NO_QUOTES}"
        raise DataError(address, problem=problem, remedy=remedy)
    if any(map(BLANK_QUOTE.match, names)):
        problem = "a blank stands before a quote in the header, which therefore quotes nothing"
        raise DataError(address, problem=problem, remedy="remove the blank")
    return checked_header(names, address)


def checked_header(header: list[str], address: str) -> list[str]:
    """The names of columns, "" for those without. Raises DataError where one stands twice."""
    if "\0" in "".join(header):
        remedy = "save the file as UTF-8; if it is UTF-16, data.encoding: utf-16-le"
        raise DataError(address, problem="the header holds NUL characters", remedy=remedy)
    twice = next((name for name in header if name.strip() and header.count(name) > 1), None)
    if twice is not None:
        remedy = "rename one of them"
        raise DataError(address, column=twice, problem="stands twice in the header", remedy=remedy)
    return [name if name.strip() else "" for name in header]


def check_unnamed(filled: Iterable[int], named: Collection[int], address: str) -> None:
    """Raises DataError for a value whose column has no name, behind one that has.

    Those in front are left out: programs write the number of a row there.

    Args:
        filled: The places of values, from 0.
        named: The places of columns that have a name, in order.
        address: The row's.
    """
    first = next(iter(named))
    if (place := next((each for each in filled if each > first and each not in named), -1)) > 0:
        problem = f"has a value in column {_letters(place)}, which has no name"
        raise DataError(address, problem=problem, remedy="name it in the header, or clear it")


def _letters(place: int) -> str:
    """The name that a spreadsheet has for a column: A, …, Z, AA."""
    return (_letters(place // 26 - 1) if place > 25 else "") + chr(ord("A") + place % 26)


def _odd(names: Sequence[str], cells: Sequence[str], address: str) -> Row | DataError:
    """A row that has not as many cells as the header names, if it can be used."""
    named = [place for place, name in enumerate(names) if name]
    if not named[-1] < len(cells) <= len(names):
        fields, columns = _counted(len(cells), "field"), _counted(len(names), "column")
        problem = f"has {fields}, but the header has {columns}"
        remedy = "quote values that hold a delimiter, a quote or a line break"
        if len(names) == 1 and _SIGN.search(names[0]):
            remedy += f"; or the only column is {names[0]!r}: data.delimiter says what separates"
        if any(map(BLANK_QUOTE.match, cells)):
            problem += ": a blank stands before a quote, which therefore quotes nothing"
            remedy = "remove the blank"
        return DataError(address, problem=problem, remedy=remedy)
    if "\0" in "".join(cells):
        return DataError(address, problem="holds a NUL character")
    try:
        check_unnamed((place for place, cell in enumerate(cells) if cell.strip()), named, address)
    except DataError as error:
        return error
    return Row({names[place]: cells[place] for place in named}, address)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
