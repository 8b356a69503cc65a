"""Rows: which ones are good, which split they go to, and how rows in memory become a file.

Nothing here keeps rows: a location is read as often as it is needed, and what is remembered of a
row is a bit or a number.
"""

from __future__ import annotations

import datetime
import json
import math
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, Literal
from uuid import UUID

import numpy as np

from nlpkit.contracts import Row, Task
from nlpkit.data import classes
from nlpkit.data.plan import hashes
from nlpkit.errors import DataError, InputError, closest, column_name

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.contracts import Source, TextInput
    from nlpkit.errors import Problem

Policy = Literal["error", "skip", "quarantine"]

_SPLIT = 3  # keeps the hashes of the split apart from those of the plan
_KINDS = 100  # of problems that are remembered; messages may differ from row to row
_DIGITS = 300  # of a whole number; a float has no more either
_TIMES = datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64


@dataclass
class BadRows:
    """Collects what is wrong with rows, alike by alike, in constant memory.

    Attributes:
        policy: What becomes of bad rows.
        quarantine: Where they are written to as JSON lines, under that policy.
        count: How many there were.
        first: The first since this was set to None.
    """

    policy: Policy
    quarantine: IO[str] | None = None
    count: int = 0
    first: DataError | None = None
    _alike: dict[tuple[str | None, str], tuple[DataError, int]] = field(default_factory=dict)

    def add(self, error: DataError, row: Row | None = None) -> None:
        """Takes note of a bad row; `row` is None where it could not even be read."""
        self.count += 1
        self.first = self.first or error
        kind = (error.column, error.problem)
        if kind in self._alike or len(self._alike) < _KINDS:
            first, count = self._alike.get(kind, (error, 0))
            self._alike[kind] = (first, count + 1)
        if self.policy == "quarantine" and self.quarantine is not None:
            values = None if row is None else row.values
            line = {"address": error.address, "reason": str(error), "values": values}
            self.quarantine.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")

    def check(self, *, good: int) -> None:
        """Does what the policy `error` says; `good` rows are left where bad ones are dropped.

        Raises:
            DataError: The first problem, with how many rows have it, and how many have others.
        """
        if self.policy != "error" or not self._alike:
            return
        first, count = next(iter(self._alike.values()))
        remedy = "1 such row" if count == 1 else f"{count:,} such rows"
        if count < self.count:
            remedy += f", {self.count - count:,} with other problems"
        remedy += "; data.on_bad_rows: skip drops them" if good else "; no row is good"
        raise first.advising(f"{first.remedy}; {remedy}" if first.remedy else remedy)

    def summary(self) -> list[dict[str, Any]]:
        """For reports: the first of each problem, and how many rows have it."""
        return [{"problem": str(first), "rows": count} for first, count in self._alike.values()]


@dataclass(frozen=True)
class Rows:
    """The rows of a location that a mask selects; each loop over them reads the location again."""

    source: Source
    location: str
    mask: np.ndarray

    def __len__(self) -> int:
        return int(self.mask.sum())

    def __iter__(self) -> Iterator[Row]:
        selection = self.mask.tobytes()  # a byte a row; a list takes eight
        for selected, item in zip(selection, self.source.rows(self.location), strict=True):
            if selected and isinstance(item, Row):
                yield item


def texts_of(task: Task, row: Row, *, targets: bool) -> Mapping[str, TextInput]:
    """The texts of a row by part.

    Raises:
        DataError: One is missing, empty, or so long that its tokens could fill the memory.
    """
    texts, most = task.texts(row, targets=targets), task.longest if targets else Task.longest
    for text in texts.values():
        if (count := characters(text)) > most:
            raise DataError(
                row.address,
                problem=f"the text has {count:,} characters; is a quote open?",
                remedy=f"{most:,} are the most; cut it",
            )
    return texts


def characters(text: TextInput) -> int:
    """How many a text has, or the texts of a pair, or words together."""
    return len(text) if isinstance(text, str) else sum(map(len, text))


def remarks(source: Source) -> list[Problem]:
    """What a source found odd in what it has read."""
    return list(getattr(source, "remarks", ()))


def check_columns(row: Row, columns: Iterable[str], location: str, choose: str) -> None:
    """Raises DataError for a column that a location's row does not have; `choose` is the remedy."""
    for column in columns:
        if column not in row.values:
            names = [str(name) for name in row.values]
            raise DataError(
                location,
                column=column,
                problem="does not exist",
                suggestion=closest(column, names),
                remedy=f"the columns are: {', '.join(map(column_name, names))}; {choose}",
            )


def scan(source: Source, location: str, task: Task, bad: BadRows) -> tuple[Rows, np.ndarray]:
    """Reads a location once, and finds out which rows the task can use.

    Returns:
        The good rows, and the number of each row's stratum, [rows], in order of appearance.
    """
    good, strata = bytearray(), array("q")
    numbers: dict[str, int] = {}
    for item in source.rows(location):
        stratum = None
        if isinstance(item, DataError):
            bad.add(item)
        else:
            try:
                texts_of(task, item, targets=True)
                stratum = task.stratum(item)
            except DataError as error:
                bad.add(error, item)
        good.append(stratum is not None)
        strata.append(numbers.setdefault(stratum or "", len(numbers)))
    return Rows(source, location, np.array(good, bool)), np.array(strata)


def undivided(fraction: float, count: int) -> tuple[str, str]:
    """What is wrong, and what to do, where `split_off` holds none of `count` rows out."""
    if count == 1:
        return "the one training row cannot be divided", "give a file, or null"
    message = f"{fraction} of {count:,} training rows is no row (a label keeps at least one row)"
    return message, "give a larger fraction, a file, or null"


def split_off(rows: Rows, strata: np.ndarray, *, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Splits validation rows off the training rows, in proportion in every stratum.

    Each stratum gives its quota by the largest-remainder method, so that the whole is the fraction
    to the row, but always keeps a row for training. Which rows is decided by hashes of the seed and
    a row's index: the same on every machine.

    Returns:
        Training rows and validation rows.
    """
    indices = np.flatnonzero(rows.mask)
    ordered = indices[np.argsort(hashes(indices, seed, _SPLIT))]
    sizes = np.bincount(strata[indices], minlength=1)
    takes = _quotas(sizes, fraction)
    ordered = ordered[np.argsort(strata[ordered], kind="stable")]
    starts = np.cumsum(sizes) - sizes
    places = np.arange(len(ordered)) - np.repeat(starts, sizes)  # of a row in its stratum
    chosen = np.zeros(len(rows.mask), bool)
    chosen[ordered[places < np.repeat(takes, sizes)]] = True
    train = Rows(rows.source, rows.location, rows.mask & ~chosen)
    return train, Rows(rows.source, rows.location, chosen)


def _quotas(sizes: np.ndarray, fraction: float) -> np.ndarray:
    """How many rows each stratum gives: largest remainders, and one row at least stays."""
    exact = sizes * fraction
    takes = np.floor(exact).astype(np.int64)
    missing = max(0, round(fraction * int(sizes.sum())) - int(takes.sum()))
    by_remainder = np.argsort(takes - exact, kind="stable")
    can_give = by_remainder[takes[by_remainder] + 1 < sizes[by_remainder]]
    takes[can_give[:missing]] += 1
    return takes


def write_rows(
    rows: Any,
    path: Path,
    split: str,
    *,
    columns: Collection[str] | None = None,
    marked: bool = False,
) -> int:
    """Writes rows in memory as JSON Lines of `[address, values]`, as the source `files` reads them.

    An address is `train row 7 (index 'T-77')`.

    Args:
        rows: Mappings of columns to values: a list, a datasets.Dataset, or a pandas DataFrame,
            whose index is in the addresses where it is not the default one. NaN becomes null, a
            set a sorted list, a date its text, the number of a dataset's class its name.
        path: The file.
        split: What the addresses start with.
        columns: Those that are written, of the others at most their names; None: all.
        marked: Whether the file says that it is UTF-8, which then counts more than data.encoding.

    Returns:
        How many rows there are.

    Raises:
        InputError: There are none, one is no mapping, or holds what cannot be written.
    """
    count, names = 0, {} if hasattr(rows, "itertuples") else classes.of_dataset(rows)
    encoding = "utf-8-sig" if marked else "utf-8"
    with path.open("w", encoding=encoding, errors="backslashreplace") as file:
        for index, values in _enumerated(rows, split, columns):
            address = f"{split} row {count}"
            if not (isinstance(index, int) and index == count):
                address += f" (index {index!r})"
            if not isinstance(values, Mapping):
                kind, remedy = type(values).__name__, 'give rows such as {"text": …, "label": …}'
                problem = f"is {kind}, not a mapping of columns to values"
                raise DataError(address, problem=problem, remedy=remedy)
            cells = classes.named(plain(_chosen(values, columns), address), names, address)
            if bad := next((each for each in cells.values() if isinstance(each, DataError)), None):
                raise bad
            file.write(json.dumps([address, cells], ensure_ascii=False) + "\n")
            count += 1
    if not count:
        raise InputError(f"data: no {split} rows were given")
    return count


def _chosen(values: Mapping[Any, Any], columns: Collection[str] | None) -> Mapping[Any, Any]:
    """The values of these columns; where one is missing, the names of all, for its error."""
    if columns is None:
        return values
    chosen = {str(name): value for name, value in values.items() if str(name) in columns}
    return chosen if len(chosen) == len(set(columns)) else dict.fromkeys(values) | chosen


def _enumerated(
    rows: Any, split: str, columns: Collection[str] | None
) -> Iterable[tuple[Any, Any]]:
    if columns and {*columns} <= {*getattr(rows, "column_names", ())}:
        # a datasets.Dataset decodes no pictures then; "select" is the word of pyarrow's Table
        select = "select_columns" if hasattr(rows, "select_columns") else "select"
        rows = getattr(rows, select)(list(columns))
    if hasattr(rows, "itertuples"):  # a DataFrame
        names = list(map(str, rows.columns))
        judged = names if columns is None else columns
        twice = next((name for name in judged if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{split} rows", column=twice, problem="stands twice in the DataFrame")
        for index, values in zip(rows.index, rows.itertuples(index=False, name=None), strict=True):
            yield index, dict(zip(names, values, strict=True))
    elif hasattr(rows, "to_batches"):  # a Table of pyarrow
        yield from enumerate(row for part in rows.to_batches() for row in part.to_pylist())
    elif isinstance(rows, Iterable) and not isinstance(rows, str | bytes | Mapping):
        yield from enumerate(rows)
    else:
        raise InputError(
            f"data: {split} is {type(rows).__name__}; give a list of mappings, a pandas DataFrame "
            "or a datasets.Dataset (a file is named in the config under data)"
        )


def plain(values: Mapping[Any, Any], address: str) -> dict[str, Any]:
    """The values of a row as JSON has them: NaN becomes null, a date its text.

    What is neither text nor a number, nor what becomes one, is a DataError in its place.
    """
    cells = dict[str, Any]()
    for column, value in values.items():
        try:
            cells[str(column)] = _plain(value)
        except TypeError as error:
            cells[str(column)] = DataError(address, column=str(column), problem=str(error))
    return cells


def _plain(value: Any) -> Any:
    """A value as JSON has it; what marks a missing one becomes None. Raises TypeError."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Set):
        return sorted(map(_plain, value), key=str)
    if isinstance(value, _TIMES | UUID):
        text = str(value)
        return None if text == "NaT" else text
    if isinstance(value, Decimal):
        return _number(value)
    if hasattr(value, "tolist"):  # of numpy, and tensors of torch, which is not imported
        return _plain(value.tolist())
    if hasattr(value, "as_py"):  # pyarrow's, which is not imported
        return _plain(value.as_py())
    kind = type(value).__name__
    if kind == "NAType":  # pandas has it, and is not imported
        return None
    raise TypeError(f"is {kind}; give text, a number, a date, or a list of them")


def _number(value: Decimal) -> int | float | None:
    """A whole number with all its digits, else the nearest float."""
    if value.is_nan():
        return None
    whole = value.is_finite() and value.adjusted() < _DIGITS and value == int(value)
    return int(value) if whole else float(value)
