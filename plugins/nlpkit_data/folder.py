"""The source `folder`: a text is a file, and its label the folder that the file is in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nlpkit.contracts import Row
from nlpkit.data.encoding import LONGEST, lines
from nlpkit.data.opening import opened
from nlpkit.errors import DataError, closest
from nlpkit_data.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nlpkit_data.config import FolderConfig

_SUFFIX = ".txt"
_LARGEST = 4 * LONGEST  # bytes
_SHAPE = "texts are .txt files in folders named after their labels"


class Folder:
    """Implements `nlpkit.contracts.Source`: rows have the columns `text` and `label`."""

    def __init__(self, options: FolderConfig) -> None:
        self._options = options

    def default(self, split: str) -> str | None:
        """None: a folder has to be named."""
        return None

    def rows(self, location: str) -> Iterator[Row | DataError]:
        """The texts of a folder, by label and then by name; a file that is not text is an error.

        Raises:
            DataError: There is no such folder, or it is not laid out so.
        """
        for path in self._texts(location):
            try:
                yield _row(path, self._options.encoding)
            except DataError as error:
                yield error

    def fingerprint(self, location: str) -> str:
        """A hash of the labels, and of the files' names and contents."""
        digest = hashlib.sha256()
        for path in self._texts(location):
            with opened(str(path), _shown(path)) as file:
                content = hashlib.sha256(file.read()).hexdigest()
            digest.update(f"{path.parent.name}/{path.name}\0{content}\n".encode())
        return digest.hexdigest()

    def _texts(self, location: str) -> Iterator[Path]:
        if "://" in location:
            remedy = "copy it here, or make one file of it: .jsonl.gz, .parquet"
            raise DataError(location, problem="is no folder of this machine", remedy=remedy)
        top = Path(os.path.expanduser(location))
        for label in self._labels(top):
            yield from _files(top / label)

    def _labels(self, top: Path) -> Sequence[str]:
        entries = _entries(top)
        labels = [each.name for each in entries if each.is_dir()]
        for label in self._options.labels:
            if label not in labels:
                problem = f'has no folder "{label}", which data.labels names'
                raise DataError(_shown(top), problem=problem, suggestion=closest(label, labels))
        if not labels:
            problem = "has no folders" if entries else "is an empty folder"
            raise DataError(_shown(top), problem=problem, remedy=_SHAPE)
        texts = [each.name for each in entries if _is_text(each)]
        if texts and not self._options.labels:
            problem = f"is in no label's folder ({_SHAPE})"
            remedy = "move it, or name the folders that count in data.labels"
            raise DataError(_shown(top / texts[0]), problem=problem, remedy=remedy)
        return sorted(set(self._options.labels)) or labels


def _files(folder: Path) -> Iterator[Path]:
    entries = _entries(folder)
    if inner := next((each.name for each in entries if each.is_dir()), None):
        problem = f'has a folder, "{inner}", where texts should be'
        remedy = f"{_SHAPE}; is {_shown(folder)} the location?"
        raise DataError(_shown(folder), problem=problem, remedy=remedy)
    texts = [each for each in entries if _is_text(each)]
    if not texts:
        remedy = "remove it, or name the folders that count in data.labels"
        raise DataError(_shown(folder), problem="has no .txt files", remedy=remedy)
    return iter(texts)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, by name."""
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        near = os.listdir(folder.parent) if folder.parent.is_dir() else []
        guess = closest(folder.name, near)
        raise DataError(
            _shown(folder), problem="there is no such folder", suggestion=guess
        ) from None
    except NotADirectoryError:
        remedy = "data.name: files reads files"
        raise DataError(_shown(folder), problem="is no folder", remedy=remedy) from None
    except OSError as error:
        raise DataError(_shown(folder), problem=f"cannot be read ({error.strerror})") from None
    visible = [each for each in found if not each.name.startswith(".")]
    for each in visible:
        if _shown(each) != shown(str(each)):
            problem = "the name is not UTF-8"
            raise DataError(_shown(each), problem=problem, remedy="rename it")
    return visible


def _is_text(path: Path) -> bool:
    return path.suffix.lower() == _SUFFIX and path.is_file()


def _row(path: Path, encoding: str) -> Row:
    address = _shown(path)
    if path.stat().st_size > _LARGEST:
        raise DataError(address, problem=f"has more than {_LARGEST:,} bytes", remedy="is it text?")
    with opened(str(path), address) as file:
        text = "".join(lines(file, address, encoding)).rstrip("\r\n")
    if "\0" in text:
        raise DataError(address, problem="holds a NUL character", remedy="is it text?")
    return Row({"text": text, "label": path.parent.name}, address)


def _shown(path: Path) -> str:
    return shown(str(path)).encode(errors="backslashreplace").decode()
