"""Lays a table out as lines of text that fit a width: pure, and light on the start-up path."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_GAP = "  "


def layout(
    columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None
) -> list[str]:
    """The lines of a table: a heading, a rule, and the rows, the longest columns wrapped.

    Args:
        columns: The headings.
        rows: One value a column; numbers are set on the right, None is empty.
        width: The cells of a line, or None for as many as it takes.
    """
    texts = [list(columns), *([_text(value) for value in row] for row in rows)]
    widths = [max(_cells(row[index]) for row in texts) for index in range(len(columns))]
    if width is not None:
        _narrow(widths, width - len(_GAP) * (len(columns) - 1))
    right = [
        bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        for index in range(len(columns))
    ]
    lines = [line for row in texts for line in _lines(row, widths, right)]
    heading = len(_lines(texts[0], widths, right))
    lines.insert(heading, _GAP.join("─" * size for size in widths))
    return lines


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"
    return " ".join(str(value).split())


def _narrow(widths: list[int], available: int) -> None:
    while sum(widths) > available and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1


def _lines(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    cells = [_wrap(text, width) for text, width in zip(row, widths, strict=True)]
    return [
        _GAP.join(
            _padded(cell[line] if line < len(cell) else "", width, at_right)
            for cell, width, at_right in zip(cells, widths, right, strict=True)
        ).rstrip()
        for line in range(max(map(len, cells)))
    ]


def _padded(text: str, width: int, at_right: bool) -> str:
    space = " " * (width - _cells(text))
    return space + text if at_right else text + space


def _wrap(text: str, width: int) -> list[str]:
    wrap = textwrap.wrap if _plain(text) else _wcwidth().wrap
    return wrap(text, width, break_on_hyphens=False) or [""]


def _cells(text: str) -> int:
    """How many cells of a terminal a text takes: Chinese letters take two, combining marks none."""
    return len(text) if _plain(text) else _wcwidth().width(text)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _wcwidth() -> ModuleType:
    import wcwidth  # a fifth of a second, which most tables need not wait for

    return wcwidth
