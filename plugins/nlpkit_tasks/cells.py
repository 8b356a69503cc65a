"""Reads the cells of a row: each function gives what a column must hold, or raises a DataError."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nlpkit.errors import DataError, closest

if TYPE_CHECKING:
    from nlpkit.contracts import Row

_BLANK = re.compile(r"[\s\u00ad\u200b-\u200f\u2060\ufeff]*")  # spaces, and what has no width


def cell(row: Row, column: str) -> Any:
    """The value of a column that must exist; None for NaN, which marks a missing one."""
    if column in row.values:
        value = row.values[column]
        return None if isinstance(value, float) and math.isnan(value) else value
    names = [str(name) for name in row.values]
    remedy = f"the columns are: {', '.join(names)}"
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        remedy = f"the only column is {names[0]!r}: separate with commas, or with tabs in a .tsv"
    raise DataError(
        row.address,
        column=column,
        problem="does not exist",
        suggestion=closest(column, names) if len(names) > 1 else None,
        remedy=remedy,
    )


def text(row: Row, column: str) -> str:
    """A text of which something can be seen."""
    value = cell(row, column)
    if value is not None and not isinstance(value, str):
        raise DataError(row.address, column=column, value=value, problem="is not text")
    if value is None or _BLANK.fullmatch(value):
        raise DataError(row.address, column=column, problem="the text is empty")
    return value


def label(row: Row, column: str) -> str:
    """A label as text: JSON's true is "true", 1 is "1", and so is 1.0."""
    value = cell(row, column)
    name = _name(row, column, value)
    if not name:
        raise DataError(row.address, column=column, problem="the label is empty")
    return name


def labels(row: Row, column: str) -> tuple[str, ...]:
    """Labels from a JSON list, or from text separated by commas; an empty cell has none."""
    value = cell(row, column)
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise DataError(
                row.address, column=column, value=value, problem="is no JSON list"
            ) from None
    if value is None or isinstance(value, str):
        value = (value or "").split(",")
    parts = value if isinstance(value, list | tuple) else [value]
    names = (_name(row, column, part) for part in parts)
    return tuple(dict.fromkeys(name for name in names if name))


def number(row: Row, column: str) -> float:
    """A finite number, or text that is one."""
    value = cell(row, column)
    if value is None or value == "":
        raise DataError(row.address, column=column, problem="the number is missing")
    try:
        result = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise DataError(row.address, column=column, value=value, problem="is not a finite number")
    return result


def _name(row: Row, column: str, value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        raise DataError(
            row.address,
            column=column,
            value=value,
            problem="is not a single label",
            remedy="task.target: multilabel takes lists of labels",
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):  # whole numbers beside a missing one: pandas makes them floats
        value = None if math.isnan(value) else int(value) if value.is_integer() else value
    return "" if value is None else str(value).strip()
