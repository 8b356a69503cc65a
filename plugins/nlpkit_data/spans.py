"""What is odd about quotes of a csv file, though csv reads it."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from nlpkit.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BLANK_QUOTE = re.compile(r'\s+"')
"""What a value begins with whose quote quotes nothing."""
BREAK = re.compile(r"\r\n?|\n")
"""What ends a line within a value."""

_Fields = list[tuple[int, str]]  # values, each with the place of its column
_DIGIT = re.compile(r"\d")
_SHORT = 2  # characters of a number that says something only beside others
_KNOWN = 10_000  # different values of a column that are remembered
_LENGTH = 64  # characters of one
_LINES = 500  # of a cell that are remembered
_WAITING = 100  # cells, until the columns are known well
_FEW = 3  # lines, which say nothing of columns
_NAMED = 10  # cells in a warning


class Spans:
    """Finds quoted cells that swallowed rows: two stray quotes do that, and csv is content.

    A cell of several lines is one if each line has the delimiters of a row, and half of them have a
    value as its column has in other rows: a label, or a number or date of the same shape.

    Args:
        address: The file's.
        delimiter: What separates its values.
        columns: How many there are.
    """

    def __init__(self, address: str, delimiter: str, columns: int) -> None:
        self._address, self._delimiter = address, delimiter
        self._values = [Counter[str]() for _ in range(columns)]
        self._rows = 0
        self._waiting: list[tuple[str, list[_Fields]]] = []
        self._found: list[str] = []
        self._blank = 0  # the line of a blank before a quote

    def see(self, line: int, last: int, cells: Sequence[str]) -> None:
        """Looks at a row, which starts in a line and ends in another or the same."""
        if last > line:
            for place, cell in enumerate(cells):
                if BREAK.search(cell) and (fields := self._fields(cell, place)):
                    self._waiting.append((f"{line} to {last}", fields))
        self._rows += 1
        for values, cell in zip(self._values, cells, strict=True):
            if len(cell) <= _LENGTH and len(values) < _KNOWN and not BREAK.search(cell):
                values[cell] += 1
            if not self._blank and BLANK_QUOTE.match(cell):
                self._blank = line
        if len(self._waiting) > _WAITING:
            self._judge()

    def report(self, say: Callable[[Problem], None]) -> None:
        """Says what was found."""
        self._judge()
        if self._blank:
            message = "a blank stands before a quote, which is therefore a part of the value"
            say(self._warning(self._blank, message, "remove the blank"))
        if self._found:
            count, first = len(self._found), self._found[0].partition(" ")[0]
            named = ", ".join(self._found[:_NAMED]) + ", …" * (count > _NAMED)
            values = "1 quoted value holds" if count == 1 else f"{count:,} quoted values hold"
            message = f"{values} what look like rows: lines {named}"
            remedy = "close or double the quotes; data.quotes: none, if quotes mean nothing here"
            say(self._warning(int(first), message, remedy))

    def _warning(self, line: int, message: str, remedy: str) -> Problem:
        address = f"{self._address}:{line}"
        return Problem(address=address, message=message, remedy=remedy, severity="warning")

    def _fields(self, cell: str, place: int) -> list[_Fields]:
        """By line the values that a cell has for other columns; [] where a line is no row's."""
        found, columns = list[_Fields](), len(self._values)
        lines = [line for line in BREAK.split(cell) if line.strip()]
        for number, line in enumerate(lines, 1):
            start = place if number == 1 else 0
            parts = line.split(self._delimiter)
            if start + len(parts) != (place + 1 if number == len(lines) else columns):
                return []
            found.append([each for each in enumerate(parts, start) if each[0] != place])
        return [fields for fields in found if fields][:_LINES]

    def _judge(self) -> None:
        for span, lines in self._waiting:
            if 2 * self._alike(lines) >= len(lines):
                self._found.append(span)
        self._waiting.clear()

    def _alike(self, lines: list[_Fields]) -> int:
        """How many lines have a value as its column has in other rows, or in other lines.

        The lines count only where they outnumber the rows, of which too few are left to judge by.
        """
        seen, rows, own = self._values, self._rows, len(lines) > max(self._rows, _FEW)
        if own:
            seen, rows = [values.copy() for values in seen], rows + len(lines)
            for place, value in chain.from_iterable(lines):
                seen[place][value] += 1
        shapes = [{_shape(value) for value in values} for values in seen]

        def known(place: int, value: str) -> bool:
            values = seen[place]
            if 2 * len(values) <= rows and value.strip() and values[value] > own:
                return True
            alike = 2 * len(shapes[place]) <= len(values)
            digits = alike and _shape(value) != value and (len(value) > _SHORT or len(lines) > 1)
            return digits and _shape(value) in shapes[place]

        return sum(any(known(*field) for field in fields) for fields in lines)


def _shape(value: str) -> str:
    """A value with its digits made alike: 2026-03-01 becomes ####-##-##."""
    return _DIGIT.sub("#", value)
