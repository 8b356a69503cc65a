"""What is given to be predicted: texts, pairs, words or rows, as rows that the task can read."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from nlpkit.contracts import Row
from nlpkit.data.rows import texts_of
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from nlpkit.contracts import Task

Text = str | tuple[str, ...] | list[str]
"""One text; a pair of texts for a task with two text columns; the words of a text for a task that
takes them."""


def columns_of(task: Task) -> tuple[str, ...]:
    """The columns of the texts that are predicted."""
    return tuple(chain.from_iterable(task.columns.values()))


def usable(task: Task, text: Text | Row | DataError | None, address: str) -> Row | DataError:
    """The row of a text, or what is wrong with it."""
    row = text if isinstance(text, Row | DataError) else _row(task, text, address)
    if isinstance(row, DataError):
        return row
    for column in columns_of(task):
        if isinstance(cell := row.values.get(column), DataError):
            return cell
    try:
        for each in texts_of(task, row, targets=False).values():
            "".join(each).encode()
    except DataError as error:  # its traceback would keep this frame, and so the whole window
        return error.with_traceback(None)
    except UnicodeEncodeError:
        problem = "holds half a surrogate pair, which is no character"
        return DataError(row.address, problem=problem)
    return row


def _row(task: Task, text: Any, address: str) -> Row | DataError:
    columns, text = columns_of(task), _python(text)
    several = isinstance(text, tuple | list)
    if several and len(columns) == 1:
        if task.words:
            return Row({columns[0]: list(text)}, address)
        problem = f"is a {type(text).__name__}; the task takes single texts"
        return DataError(address, value=text, problem=problem)
    if len(columns) > 1 and not (several and len(text) == len(columns)):
        named = " and ".join(columns)
        return DataError(address, value=text, problem=f"is not a pair of texts ({named})")
    values = [None if _absent(each) else each for each in (text if several else [text])]
    return Row(dict(zip(columns, values, strict=True)), address)


def _python(value: Any) -> Any:
    """What an array of numpy or a scalar of pyarrow, which is not imported, holds."""
    for name in ("as_py", "tolist"):
        if hasattr(value, name):
            return getattr(value, name)()
    return value


def _absent(value: object) -> bool:
    """Whether it is what pandas, which is not imported, has in the place of a missing text."""
    nan = isinstance(value, float) and value != value
    return nan or type(value).__name__ in ("NAType", "NaTType")
