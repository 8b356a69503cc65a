"""The source `files`: csv, tsv, jsonl, parquet and xlsx, from a path or an fsspec URL.

Rows carry the line on which they start. A row that is broken is given as its error, and reading
goes on after it; a file that cannot be read at all raises.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import threading
import zlib
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from nlpkit.contracts import Row
from nlpkit.data.encoding import lines
from nlpkit.errors import DataError, closest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nlpkit_data.config import FilesConfig

    Reader = Callable[[IO[bytes], str, FilesConfig], Iterator[Row | DataError]]

_T = TypeVar("_T")
_BLOCK = 1 << 20
_LONGEST = 2**31 - 1  # characters of a csv field; the default stops at 128 KiB
_ROWS = 16  # that are read together; any of them may be long
_UNCLOSED = "unexpected end of data"  # csv's words
_LIMIT = threading.Lock()  # held while csv has this limit, which is the whole process's


class Files:
    """Implements `nlpkit.contracts.Source`."""

    def __init__(self, options: FilesConfig) -> None:
        self._options = options

    def default(self, split: str) -> str | None:
        """None: files have to be named."""
        return None

    def rows(self, location: str) -> Iterator[Row | DataError]:
        """The rows of a file, or the error of one that is broken.

        Raises:
            DataError: The file is missing, empty, not of a known kind, not of its encoding, or its
                header is unusable.
        """
        location = os.path.expanduser(location)
        address = shown(location)
        read = reader(location)
        with opened(location, address) as file:
            yield from read(file, address, self._options)

    def fingerprint(self, location: str) -> str:
        """The sha256 of the file."""
        location = os.path.expanduser(location)
        digest = hashlib.sha256()
        with opened(location, shown(location), unpack=False) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()


def shown(location: str) -> str:
    """A location as addresses have it: relative to the working directory where it is inside."""
    if "://" not in location:
        relative = os.path.relpath(location)
        if relative.split(os.sep)[0] != os.pardir:
            return relative
    return location


def reader(location: str) -> Reader:
    """What reads a file of this suffix.

    Raises:
        DataError: The suffix is unknown, or cannot have .gz.
    """
    suffix = Path(location.lower().removesuffix(".gz")).suffix
    if suffix not in READERS:
        if "://" not in location:
            with opened(location, shown(location), unpack=False):
                pass  # there is a file, so its suffix is at fault
        problem = f'has the suffix "{suffix}", which names no kind of file that can be read'
        remedy = f"they are {', '.join(READERS)}, the first three also with .gz"
        raise DataError(shown(location), problem=problem, remedy=remedy)
    if suffix not in _TEXTS and location.lower().endswith(".gz"):
        problem = f"a {suffix} file cannot be read through gzip"
        raise DataError(shown(location), problem=problem, remedy="unpack it")
    return READERS[suffix]


@contextmanager
def opened(location: str, address: str, *, unpack: bool = True) -> Iterator[IO[bytes]]:
    """The bytes of a location, unpacked; what goes wrong with the file becomes a DataError."""
    try:
        with _raw(location) as raw:
            if unpack and location.lower().endswith(".gz"):
                with gzip.open(raw) as file:
                    yield cast("IO[bytes]", file)
            else:
                yield raw
    except FileNotFoundError as error:
        cause = error.__cause__  # fsspec's http says so too where a connection fails
        if location.startswith("http") and cause and getattr(cause, "status", 0) != 404:
            raise DataError(address, problem=f"cannot be reached ({cause})") from None
        folder = Path(location).parent
        names = os.listdir(folder) if "://" not in location and folder.is_dir() else []
        raise DataError(
            address,
            problem="there is no such file",
            suggestion=closest(Path(location).name, names),
        ) from None
    except IsADirectoryError:
        raise DataError(address, problem="is a folder; name a file in it") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        problem = f"is not a whole gzip file ({error})"
        raise DataError(
            address, problem=problem, remedy="copy it again, or pack it again"
        ) from None
    except OSError as error:
        raise DataError(address, problem=f"cannot be read ({error.strerror or error})") from None


def _raw(location: str) -> IO[bytes]:
    if "://" not in location:
        return Path(location).open("rb")
    import fsspec  # type: ignore[import-untyped]  # takes 50 ms, and local paths do without

    try:
        return cast("IO[bytes]", fsspec.open(location, "rb").open())
    except (ImportError, ValueError) as error:  # an unknown scheme, or its package is missing
        raise DataError(location, problem=f"cannot be read ({error})") from None


def read_csv(
    file: IO[bytes], address: str, options: FilesConfig, *, delimiter: str = ","
) -> Iterator[Row | DataError]:
    """Rows of a csv file with a header; quoted values may hold line breaks and doubled quotes.

    Raises:
        DataError: The header is unusable, or a quote never closes: all rows behind it are lost.
    """
    table = csv.reader(lines(file, address, options.encoding), delimiter=delimiter, strict=True)
    header: list[str] = []
    for line, last, cells in _limited(_numbered(table)):
        here = f"{address}:{line}"
        if isinstance(cells, csv.Error):
            lost = f"lines {line} to {last}" if last > line else ""
            broken = _broken(str(cells), here, lost)
            if str(cells) == _UNCLOSED or not header:
                raise broken from None
            yield broken
        elif not cells:
            continue  # a blank line
        elif not header:
            header = checked_header(cells, here)
        elif len(cells) != len(header):
            yield DataError(
                here,
                problem=f"has {len(cells)} fields, but the header has {len(header)} columns",
                remedy="quote values that hold a delimiter, a quote or a line break",
            )
        elif "\0" in "".join(cells):
            yield DataError(here, problem="holds a NUL character")
        else:
            yield Row(dict(zip(header, cells)), here)  # noqa: B905 (as long; half the time)
    if not header:
        raise DataError(address, problem="the file is empty", remedy="it needs a header and rows")


def _numbered(table: Any) -> Iterator[tuple[int, int, list[str] | csv.Error]]:
    """Of each row of a csv.reader its first and last line, and its cells or what is wrong."""
    while True:
        line = table.line_num + 1
        try:
            cells: list[str] | csv.Error = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            cells = error
        yield line, table.line_num, cells


def _limited(rows: Iterator[_T]) -> Iterator[_T]:
    """The rows, some at a time, read while csv takes long fields."""
    while True:
        with _LIMIT:
            before = csv.field_size_limit(_LONGEST)
            try:
                block = list(islice(rows, _ROWS))
            finally:
                csv.field_size_limit(before)
        if not block:
            return
        yield from block


def _broken(error: str, address: str, lost: str) -> DataError:
    """A row's error from csv's text; `lost` are the lines that it takes, "" for one."""
    if error == _UNCLOSED:
        problem = "a quote opens in this row and never closes"
        problem += f": it swallows {lost}" if lost else ""
        return DataError(address, problem=problem, remedy="close it, or double it")
    if error.startswith("new-line character"):
        return DataError(address, problem="holds a lone carriage return", remedy="quote the value")
    remedy = "quote whole values, and double the quotes in them" + (
        f"; {lost} are lost" * bool(lost)
    )
    return DataError(address, problem=f"is not valid ({error})", remedy=remedy)


def checked_header(header: list[str], address: str) -> list[str]:
    """The names of columns. Raises DataError where one stands twice, or is no text."""
    if "\0" in "".join(header):
        remedy = "save the file as UTF-8; if it is UTF-16, data.encoding: utf-16-le"
        raise DataError(address, problem="the header holds NUL characters", remedy=remedy)
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        remedy = "rename one of them"
        raise DataError(address, column=twice, problem="stands twice in the header", remedy=remedy)
    return header


def read_tsv(file: IO[bytes], address: str, options: FilesConfig) -> Iterator[Row | DataError]:
    """As csv, with tabs."""
    return read_csv(file, address, options, delimiter="\t")


def read_jsonl(file: IO[bytes], address: str, options: FilesConfig) -> Iterator[Row | DataError]:
    """A JSON object a line; values keep their types, and NaN and infinities are null.

    A line may also be `[address, object]`: rows from memory say where they were there.
    """
    empty = True
    for number, line in enumerate(lines(file, address, options.encoding), 1):
        if not line.strip():
            continue
        empty = False
        here = f"{address}:{number}"
        try:
            values = _DECODER.decode(line)
        except DataError as error:
            yield DataError(here, column=error.column, problem=error.problem)
            continue
        except (ValueError, RecursionError) as error:
            remedy = f"{error}; each line is an object of its own"
            yield DataError(here, problem="is not JSON", remedy=remedy)
            continue
        if isinstance(values, list) and [type(part) for part in values] == [str, dict]:
            here, values = values
        if not isinstance(values, dict):
            yield DataError(here, problem="is JSON, but not an object with the columns as keys")
            continue
        if "\\ud" in line.lower() and not _encodable(values):
            yield DataError(here, problem="holds half a surrogate pair, which is no character")
        else:
            yield Row(values, here)
    if empty:
        raise DataError(address, problem="the file is empty", remedy="an object a line is a row")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError("", column=twice, problem="stands twice in the row")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=lambda _: None)


def _encodable(values: Any) -> bool:
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _brought_by(extra: str, module: str) -> Reader:
    """What reads a file of a kind that needs another package."""

    def read(file: IO[bytes], address: str, options: FilesConfig) -> Iterator[Row | DataError]:
        try:
            rows = import_module(f"nlpkit_data.{module}").read
        except ModuleNotFoundError as error:
            problem = f"needs {error.name}, which is not installed"
            remedy = f"pip install 'nlpkit-sdk[{extra}]'"
            raise DataError(address, problem=problem, remedy=remedy) from None
        yield from rows(file, address, options)

    return read


_TEXTS: dict[str, Reader] = {".csv": read_csv, ".tsv": read_tsv, ".jsonl": read_jsonl}
READERS: dict[str, Reader] = {
    **_TEXTS,
    ".parquet": _brought_by("parquet", "parquet"),
    ".xlsx": _brought_by("excel", "excel"),
}
