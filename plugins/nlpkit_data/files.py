"""The source `files`: csv, tsv, jsonl, conll, txt, parquet and xlsx, from a path or a URL.

Rows carry the line on which they start. A row that is broken is given as its error, and reading
goes on after it; a file that cannot be read at all raises.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nlpkit.contracts import Row
from nlpkit.data.encoding import LONGEST, lines
from nlpkit.data.opening import opened, path_of
from nlpkit.errors import DataError
from nlpkit.secrets import shown as shown_url
from nlpkit_data.conll import read_conll
from nlpkit_data.delimited import read_csv, read_tsv
from nlpkit_data.text import read_txt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nlpkit.errors import Problem
    from nlpkit_data.config import FilesConfig
    from nlpkit_data.delimited import Say

    Reader = Callable[[IO[bytes], str, FilesConfig, Say], Iterator[Row | DataError]]

_BLOCK = 1 << 20
_SHARD = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+")  # in which shards differ
_TOTAL = re.compile(r"\d-of-(\d+)")


class Files:
    """Implements `nlpkit.contracts.Source`."""

    def __init__(self, options: FilesConfig) -> None:
        self._options = options
        self.remarks: list[Problem] = []

    def default(self, split: str) -> str | None:
        """None: files have to be named."""
        return None

    def rows(self, location: str) -> Iterator[Row | DataError]:
        """The rows of a file or of a folder's files, or the error of one that is broken.

        Raises:
            DataError: A file is missing, empty, not of a known kind, not of its encoding, or its
                header is unusable.
        """
        for part in _parts(os.path.expanduser(location)):
            address = shown(part)
            read = reader(part)
            with opened(part, address) as file:
                yield from read(file, address, self._options, self._say)

    def fingerprint(self, location: str) -> str:
        """A hash of the files' contents and suffixes, which say how they are read."""
        digest = hashlib.sha256()
        for part in _parts(os.path.expanduser(location)):
            content = hashlib.sha256()
            with opened(part, shown(part), unpack=False) as file:
                while block := file.read(_BLOCK):
                    content.update(block)
            digest.update(f"{content.hexdigest()}{_suffix(part)}\n".encode())
        return digest.hexdigest()

    def _say(self, remark: Problem) -> None:
        if remark not in self.remarks:
            self.remarks.append(remark)


def _parts(location: str) -> list[str]:
    """The files of a location, by name: itself, or those in it where it is a folder of shards.

    Raises:
        DataError: The files in a folder are not named alike, but for numbers, or one is missing.
    """
    if "://" in location or not os.path.isdir(location):
        return [location]
    entries = [each for each in sorted(os.scandir(location), key=lambda each: each.name)]
    shards = [each for each in entries if not each.name.startswith((".", "_"))]
    kinds = {_SHARD.sub("#", each.name) for each in shards}
    if len(kinds) == 1 and not shards[0].is_dir():
        totals = {int(total) for each in shards for total in _TOTAL.findall(each.name)}
        if totals - {len(shards)}:
            problem = f"has {len(shards)} shards, and their names say {max(totals)}"
            remedy = "add what is missing and remove what is of another set; or name one file in it"
            raise DataError(shown(location), problem=problem, remedy=remedy)
        return [each.path for each in shards]
    problem = "is a folder whose files are not named alike" if kinds else "is an empty folder"
    raise DataError(
        shown(location),
        problem=problem,
        remedy="name a file in it; a folder of rows holds shards, such as part-0.csv, part-1.csv",
    )


def _suffix(location: str) -> str:
    return Path(path_of(location).lower().removesuffix(".gz")).suffix


def shown(location: str) -> str:
    """A location as addresses have it: relative to the working directory where it is inside.

    A URL is without its secrets.
    """
    if "://" not in location:
        relative = os.path.relpath(location)
        if relative.split(os.sep)[0] != os.pardir:
            return relative
    return shown_url(location)


def reader(location: str) -> Reader:
    """What reads a file of this suffix.

    Raises:
        DataError: The suffix is unknown, or cannot have .gz.
    """
    suffix = _suffix(location)
    if suffix not in READERS:
        if "://" not in location:
            with opened(location, shown(location), unpack=False):
                pass  # there is a file, so its suffix is at fault
        named = re.sub(r"(?<!^)\W.*", "…", suffix, flags=re.DOTALL)  # it may be signed
        problem = f'has the suffix "{named}", which names no kind of file that can be read'
        remedy = f"they are {', '.join(READERS)}, the first seven also with .gz"
        if "://" in location:
            remedy += "; download a folder, or what has a link without suffix, and name that"
        raise DataError(shown(location), problem=problem, remedy=remedy)
    if suffix not in _TEXTS and path_of(location).lower().endswith(".gz"):
        problem = f"a {suffix} file cannot be read through gzip"
        raise DataError(shown(location), problem=problem, remedy="unpack it")
    return READERS[suffix]


def read_jsonl(
    file: IO[bytes], address: str, options: FilesConfig, say: Say
) -> Iterator[Row | DataError]:
    """A JSON object a line; values keep their types, and NaN and infinities are null.

    A line may also be `[address, object]`: rows from memory say where they were there.
    """
    empty = True
    for number, line in enumerate(lines(file, address, options.encoding), 1):
        if not line.strip():
            continue
        empty = False
        here = f"{address}:{number}"
        if len(line) > LONGEST:
            yield DataError(here, problem=f"has more than {LONGEST:,} characters")
            continue
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

    def read(
        file: IO[bytes], address: str, options: FilesConfig, say: Say
    ) -> Iterator[Row | DataError]:
        try:
            rows = import_module(f"nlpkit_data.{module}").read
        except ModuleNotFoundError as error:
            problem = f"needs {error.name}, which is not installed"
            remedy = f"pip install 'nlpkit-sdk[{extra}]'"
            raise DataError(address, problem=problem, remedy=remedy) from None
        yield from rows(file, address, options)

    return read


_TEXTS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".conll": read_conll,
    ".bio": read_conll,
    ".txt": read_txt,
}
READERS: dict[str, Reader] = {
    **_TEXTS,
    ".parquet": _brought_by("parquet", "parquet"),
    ".xlsx": _brought_by("excel", "excel"),
}
