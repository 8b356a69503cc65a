"""Reads the cells of a row: each function gives what a column must hold, or raises a DataError."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nlpkit.errors import DataError, closest, column_name
from nlpkit.files import from_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlpkit.contracts import Row

LIST_OF_FLAGS = "task.labels: [a, b, c] names the places of such lists"
NUMBERS = (
    "if numbers stand for classes, give their names, which a datasets.Dataset itself has, but not "
    "its rows as a list or a DataFrame"
)
_FLAGS = {0: False, 1: True, "0": False, "1": True, "0.0": False, "1.0": True}
_FLAGS |= {"false": False, "true": True}
_WORDS = {"true": True, "false": False, "none": None, "null": None, "nan": None}
_ITEM = re.compile(  # of a list that Python or numpy wrote: text in quotes, or a number
    r"""\s*(?:'(?P<one>(?:[^'\\]|\\.)*)'|"(?P<two>(?:[^"\\]|\\.)*)"|(?P<bare>[\w.+-]+))\s*,?\s*""",
    re.DOTALL,
)
_PRINTED = re.compile(  # what `array([…])`, `frozenset({…})`, `Index([…], dtype='object')` hold
    r"[^\W\d][\w.]*\((\[.*\]|\{.*\})(?:,\s*\w+=[^\]}]*)?\)", re.DOTALL
)
_CALL = re.compile(r"(?:array|tensor)\(|[^\W\d][\w.]*\([\[{]")
_BETWEEN = re.compile(r"\s*[;|]\s*|\s+")  # what separates 0 and 1 where no comma does
_LONGEST = 1_000  # characters of a label; a longer one is a text, or a quote is open
_BLANK = re.compile(r"[\s\u00ad\u200b-\u200f\u2060\ufeff]*")  # spaces, and what has no width


def cell(row: Row, column: str) -> Any:
    """The value of a column that must exist; None for NaN, which marks a missing one."""
    if column in row.values:
        value = row.values[column]
        if isinstance(value, DataError):
            raise value
        return None if isinstance(value, float) and math.isnan(value) else value
    names = [str(name) for name in row.values]
    remedy = f"the columns are: {', '.join(map(column_name, names))}"
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        remedy = f"the only column is {column_name(names[0])!r}: data.delimiter says what separates"
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
    if isinstance(value, str) and (parts := as_list(value)):
        value = parts if isinstance(parts[0], str) or _are_flags(parts) else value
    name = _name(row, column, value)
    if not name:
        raise DataError(row.address, column=column, problem="the label is empty")
    return name


def lists_flags(label: str) -> bool:
    """Whether a label is the text of a list of 0 and 1; it may be an interval as well."""
    return _may_be_flags(as_list(label) or ())


def places(row: Row, column: str) -> int:
    """How many places the list in a cell has; 0 where there is no list, or no such column."""
    value = row.values.get(column)
    return len(value) if isinstance(value, list | tuple) else 0


def cast(column: str, *, lists: bool = False) -> str:
    """A remedy: how a column of classes, which the library datasets names, becomes numbers."""
    kind = 'List(Value("int64"))' if lists else 'Value("int64")'
    return f'of a ClassLabel take the numbers: dataset.cast_column("{column}", {kind})'


def types(value: Any) -> set[str]:
    """What a cell's labels are: "int" (1.0 too), "bool", or "text" for all else."""
    if isinstance(value, list | tuple):
        return set().union(*map(types, value))
    if isinstance(value, bool):
        return {"bool"}
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return set() if value is None else {"int" if whole else "text"}


def labels(row: Row, column: str) -> tuple[str, ...]:
    """Labels from a list, from text that is one, or that commas separate; an empty cell has none.

    Text is read as JSON, pandas or numpy write lists: `["a", "b"]`, `['a', 'b']`, `['a' 'b']`.
    """
    parts = _parts(row, column)
    if _are_flags(parts):
        raise _unnamed(row, column)
    if _are_shares(parts):
        value, problem = row.values[column], "lists numbers between 0 and 1, which are no labels"
        remedy = "list the labels that a text has; none has a share"
        raise DataError(row.address, column=column, value=value, problem=problem, remedy=remedy)
    names = (_name(row, column, part) for part in parts)
    return tuple(dict.fromkeys(name for name in names if name))


def named(row: Row, column: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names of the places where a list of 0 and 1, or of true and false, has 1."""
    flags = [_flag(part) for part in _parts(row, column)]
    value, remedy = row.values[column], "leave task.labels out where cells name their labels"
    if None in flags:
        problem = "is no list of 0 and 1"
        if isinstance(value, list | tuple) and isinstance(value[0], str):
            remedy += f"; {cast(column, lists=True)}"
        raise DataError(row.address, column=column, value=value, problem=problem, remedy=remedy)
    if len(flags) != len(names):
        problem = f"has {len(flags)} places, and task.labels {len(names)} names"
        raise DataError(row.address, column=column, value=value, problem=problem)
    return tuple(name for name, flag in zip(names, flags, strict=True) if flag)


def flag(row: Row, column: str) -> bool:
    """Whether a cell holds 1 (or true), and not 0."""
    value = cell(row, column)
    found = _flag(value)
    if found is None:
        problem = "is neither 0 nor 1"
        remedy = f"write 0 or 1; {cast(column)}" if isinstance(value, str) else ""
        raise DataError(row.address, column=column, value=value, problem=problem, remedy=remedy)
    return found


def number(row: Row, column: str) -> float:
    """A finite number, or text that is one."""
    value = cell(row, column)
    if value is None or value == "":
        raise DataError(row.address, column=column, problem="the number is missing")
    remedy = ""
    try:
        result = math.nan if isinstance(value, bool) else _float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
        remedy = _remedy(column, value) if isinstance(value, str) else ""
    if not math.isfinite(result):
        problem = "is not a finite number"
        raise DataError(row.address, column=column, value=value, problem=problem, remedy=remedy)
    return result


def _remedy(column: str, text: str) -> str:
    """What helps where a text is no number."""
    if comma := re.fullmatch(r"\s*([+-]?[\d.]*),(\d+)\s*", text):
        point = f"{comma[1].replace('.', '')}.{comma[2]}"
        return f"write {point}, the decimal sign is a point; what parts thousands is left out"
    return cast(column) if re.search(r"[^\W\d_]", text) else ""


def _float(value: Any) -> float:
    if isinstance(value, str) and "_" in value:  # which only Python's own code may have
        raise ValueError
    return float(value)


def _name(row: Row, column: str, value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        if isinstance(value, list | tuple) and _may_be_flags(value):
            raise _unnamed(row, column)
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
    name = "" if value is None else str(value).strip()
    if len(name) > _LONGEST:
        problem, remedy = f"is a label of {len(name):,} characters", f"{_LONGEST:,} are the most"
        remedy += "; is it the column of texts, or a quote open?"
        raise DataError(row.address, column=column, value=name, problem=problem, remedy=remedy)
    return name


def _parts(row: Row, column: str) -> Sequence[Any]:
    """What a cell lists."""
    value = cell(row, column)
    if isinstance(value, str):
        listed = as_list(value)
        if listed is None and _is_torn(value.strip()):
            remedy = 'write ["a", "b"], or separate labels by commas'
            problem = "is no JSON list"
            raise DataError(row.address, column=column, value=value, problem=problem, remedy=remedy)
        flags = _BETWEEN.split(value.strip())
        value = value.split(",") if listed is None else listed
        value = flags if len(value) == 1 and _may_be_flags(flags) else value
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else [value]


def as_list(text: str) -> list[Any] | None:
    """The list that a text is, as JSON, Python or numpy write lists, tuples and sets; or None."""
    text = text.strip()
    if text in ("set()", "frozenset()"):
        return []
    if printed := _PRINTED.fullmatch(text):
        text = printed[1]
    if text[:1] + text[-1:] not in ("[]", "()", "{}"):
        return None
    if text[0] == "[":
        with suppress(ValueError):
            return list(from_json(text))
    elif "," not in text and not re.match(r"""\(\s*['")]|\{\s*['"\d]""", text):
        return None  # "(other)" is a label, and so is "(1)"
    items, at, end = [], len(text) - len(text[1:].lstrip()), len(text) - 1
    while at < end:
        found = _ITEM.match(text, at, end)
        if found is None:
            return None
        at = found.end()
        try:
            items.append(_item(found))
        except ValueError:
            return None
    return items


def _is_torn(text: str) -> bool:
    """Whether a text that is no list begins one, which its commas would tear apart."""
    first = text.partition(",")[0]
    pair = {"(": "()", "{": "{}"}.get(first[:1])
    torn = pair is not None and first.count(pair[0]) != first.count(pair[1])
    return torn or text.startswith(("[", "{'", '{"')) or _CALL.match(text) is not None


def _item(found: re.Match[str]) -> Any:
    """The value of an item; of digits after a 0 their text. Raises ValueError for other words."""
    bare = found["bare"]
    if bare is None:
        quoted = found["one"] if found["two"] is None else found["two"]
        return re.sub(r"\\([\\'\"])", r"\1", quoted)
    if bare.lower() in _WORDS:
        return _WORDS[bare.lower()]
    if bare.isdecimal():
        return int(bare) if bare == str(int(bare)) else bare
    return _float(bare)


def _flag(part: Any) -> bool | None:
    part = part.strip().lower() if isinstance(part, str) else part
    return None if isinstance(part, list | tuple | Mapping) else _FLAGS.get(part)


def _are_flags(parts: Sequence[Any]) -> bool:
    """Whether parts can be nothing but 0 and 1 at the places of labels: no label stands twice."""
    if not _may_be_flags(parts):
        return False
    return len(set(map(_flag, parts))) < len(parts) or isinstance(parts[0], bool)


def _may_be_flags(parts: Sequence[Any]) -> bool:
    return len(parts) > 1 and None not in map(_flag, parts)


def _are_shares(parts: Sequence[Any]) -> bool:
    """Whether parts are all from 0 to 1, and some between them: what a text has of each label."""
    try:
        numbers = {_float(part) for part in parts}
    except (TypeError, ValueError, OverflowError):
        return False
    return len(parts) > 1 and not numbers <= {0, 1} and all(0 <= each <= 1 for each in numbers)


def _unnamed(row: Row, column: str) -> DataError:
    value, problem = row.values[column], "is a list of 0 and 1"
    return DataError(row.address, column=column, value=value, problem=problem, remedy=LIST_OF_FLAGS)
