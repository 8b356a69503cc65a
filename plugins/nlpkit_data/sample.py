"""The source `sample`: bundled customer-service utterances, for a first run without a network."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

from nlpkit_data.config import FilesConfig
from nlpkit_data.delimited import read_csv
from nlpkit_data.files import Files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from nlpkit.contracts import Row
    from nlpkit.errors import DataError

_SCHEME = "sample://"
_LOCATIONS = {"train": f"{_SCHEME}train.csv", "test": f"{_SCHEME}test.csv"}


class Sample:
    """Implements `nlpkit.contracts.Source`; other locations than its own are read as files."""

    def __init__(self, options: None) -> None:
        self._options = FilesConfig()
        self._files = Files(self._options)
        self.remarks = self._files.remarks

    def default(self, split: str) -> str | None:
        """The bundled rows of "train" and "test"."""
        return _LOCATIONS.get(split)

    def rows(self, location: str) -> Iterator[Row | DataError]:
        """The rows of a location."""
        if location not in _LOCATIONS.values():
            yield from self._files.rows(location)
            return
        with _bundled(location).open("rb") as file:
            yield from read_csv(file, location, self._options, self.remarks.append)

    def fingerprint(self, location: str) -> str:
        """The sha256 of a location."""
        if location not in _LOCATIONS.values():
            return self._files.fingerprint(location)
        return hashlib.sha256(_bundled(location).read_bytes()).hexdigest()


def _bundled(location: str) -> Traversable:
    return files("nlpkit_data") / "sample" / location.removeprefix(_SCHEME)
