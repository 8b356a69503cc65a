"""The source `files`: csv, tsv and jsonl, also .gz, from a path or an fsspec URL.

Rows carry the line on which they start. A row that is broken is given as its error, and reading
goes on after it; a file that cannot be read at all raises.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from nlpkit.contracts import Row
from nlpkit.errors import DataError, closest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nlpkit_data.config import FilesConfig

ADDRESS = "__address__"
"""The key of a jsonl row that holds its address: rows from memory say where they were there."""

_BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 20


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
            DataError: The file is missing, empty, not of a known kind, not UTF-8, or its header is
                unusable.
        """
        address = shown(location)
        read = reader(location)
        with _opened(location, address) as file:
            yield from read(file, address)

    def fingerprint(self, location: str) -> str:
        """The sha256 of the file."""
        digest = hashlib.sha256()
        with _opened(location, shown(location), unpack=False) as file:
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


def reader(location: str) -> Callable[[IO[bytes], str], Iterator[Row | DataError]]:
    """What reads a file of this suffix.

    Raises:
        DataError: The suffix is unknown.
    """
    suffix = Path(location.lower().removesuffix(".gz")).suffix
    if suffix not in READERS:
        known = ", ".join(READERS)
        raise DataError(
            shown(location),
            problem=f'has the suffix "{suffix}"; files of {known} can be read, also with .gz',
        )
    return READERS[suffix]


@contextmanager
def _opened(location: str, address: str, *, unpack: bool = True) -> Iterator[IO[bytes]]:
    """The bytes of a location, unpacked; what goes wrong with the file becomes a DataError."""
    try:
        with _raw(location) as raw:
            if unpack and location.lower().endswith(".gz"):
                with gzip.open(raw) as file:
                    yield cast("IO[bytes]", file)
            else:
                yield raw
    except FileNotFoundError:
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
        raise DataError(address, problem=f"is not a whole gzip file ({error})") from None
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


def _lines(file: IO[bytes], address: str) -> Iterator[str]:
    offset = 0
    for number, line in enumerate(file, 1):
        bare = line.removeprefix(_BOM) if number == 1 else line
        try:
            yield bare.decode()
        except UnicodeDecodeError as error:
            at = offset + len(line) - len(bare) + error.start
            raise DataError(
                f"{address}:{number}",
                problem=f"byte {bare[error.start]:#04x} at offset {at} of the file is not UTF-8",
                remedy="save the file as UTF-8",
            ) from None
        offset += len(line)


def read_csv(file: IO[bytes], address: str, *, delimiter: str = ",") -> Iterator[Row | DataError]:
    """Rows of a csv file with a header; quoted values may hold line breaks and doubled quotes."""
    csv.field_size_limit(2**31 - 1)  # the default stops at 128 KiB; a long text is no error
    table = csv.reader(_lines(file, address), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = table.line_num + 1
        here = f"{address}:{line}"
        try:
            cells = next(table)
        except StopIteration:
            break
        except csv.Error as error:
            broken = DataError(here, problem=_explained(str(error)))
            if not header:
                raise broken from None
            yield broken
            continue
        if not cells:
            continue  # a blank line
        if not header:
            header = _checked_header(cells, here)
        elif len(cells) != len(header):
            yield DataError(
                here,
                problem=f"has {len(cells)} fields, but the header has {len(header)} columns",
                remedy="quote values that hold a delimiter, a quote or a line break",
            )
        elif "\0" in "".join(cells):
            yield DataError(here, problem="holds a NUL character")
        else:
            yield Row(dict(zip(header, cells, strict=True)), here)
    if not header:
        raise DataError(address, problem="the file is empty")


def _explained(error: str) -> str:
    if error == "unexpected end of data":
        return "a quote opens in this row and never closes"
    return f"is not valid ({error})"


def _checked_header(header: list[str], address: str) -> list[str]:
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(address, column=twice, problem="stands twice in the header")
    return header


def read_tsv(file: IO[bytes], address: str) -> Iterator[Row | DataError]:
    """As csv, with tabs."""
    return read_csv(file, address, delimiter="\t")


def read_jsonl(file: IO[bytes], address: str) -> Iterator[Row | DataError]:
    """A JSON object a line; values keep their types."""
    empty = True
    for number, line in enumerate(_lines(file, address), 1):
        if not line.strip():
            continue
        empty = False
        here = f"{address}:{number}"
        try:
            values: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield DataError(here, problem="is not JSON", remedy=str(error))
            continue
        if not isinstance(values, dict):
            yield DataError(here, problem="is JSON, but not an object with the columns as keys")
            continue
        here = str(values.pop(ADDRESS, here))
        if "\\ud" in line.lower() and not _encodable(values):
            yield DataError(here, problem="holds half a surrogate pair, which is no character")
        else:
            yield Row(values, here)
    if empty:
        raise DataError(address, problem="the file is empty")


def _encodable(values: Any) -> bool:
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


READERS: dict[str, Callable[[IO[bytes], str], Iterator[Row | DataError]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
}
