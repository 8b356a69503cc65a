"""Examples on disk: written once, in constant memory, then mapped into memory by every process.

A store is a folder. Each key of the examples has one flat file of its values, and, where the values
are arrays, a file of offsets; `meta.json` (keys, dtypes, counts, file sizes) is written last, so a
folder without it is no store.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from nlpkit.errors import PluginError, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from nlpkit.contracts import Example

FORMAT = 2
_ADDRESSES, _LENGTHS = "@addresses", "@lengths"  # no key of an example clashes with them
_BUFFER = 1 << 20
_ROWS = 500  # that are written together


class TokenStore:
    """Encoded rows, mapped into memory: opening is cheap, and so is sending it to another process.

    `len(store)` is the number of rows; `store[i]` gives row i as an `Example` of read-only views.
    """

    def __init__(self, path: Path, location: str, meta: dict[str, Any]) -> None:
        self.path, self.location = path, location
        self._count: int = meta["count"]
        self._flat: list[tuple[str, np.ndarray]] = []
        self._ragged: list[tuple[str, np.ndarray, np.ndarray]] = []
        for key, column in meta["columns"].items():
            values = _map(path / f"{key}.bin", column["dtype"])
            if column["ragged"]:
                self._ragged.append((key, values, _map(path / f"{key}.offsets.bin", "int64")))
            else:
                self._flat.append((key, values))
        self._addresses = _map(path / f"{_ADDRESSES}.bin", "uint8")
        self._address_offsets = _map(path / f"{_ADDRESSES}.offsets.bin", "int64")
        self._parts: int = meta["parts"]
        self._lengths = _map(path / f"{_LENGTHS}.bin", "int32").reshape(-1, self._parts)
        self._starts = _map(path / f"{_LENGTHS}.offsets.bin", "int64") // self._parts

    @classmethod
    def open(cls, path: Path, *, location: str = "") -> TokenStore:
        """Opens a store.

        Args:
            path: Its folder.
            location: Where its rows came from; `address` puts it before what the store holds.

        Raises:
            RunError: The store is missing, damaged, or of another format.
        """
        try:
            meta = json.loads((path / "meta.json").read_bytes())
            if meta["format"] != FORMAT:
                raise RunError(f"{path}: a token store of format {meta['format']}, not {FORMAT}")
            for name, size in meta["files"].items():
                found = (path / name).stat().st_size
                if found != size:
                    raise RunError(f"{path / name}: damaged: {found} bytes instead of {size}")
            return cls(path, location, meta)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: not a whole token store ({error})") from error

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        example: dict[str, Any] = {key: values[index] for key, values in self._flat}
        for key, values, offsets in self._ragged:
            example[key] = values[offsets[index] : offsets[index + 1]]
        return example

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.location)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each sample in all of its rows and parts, int64 [samples]."""
        if not self._count:
            return np.zeros(0, np.int64)
        of_rows = self._lengths.sum(axis=1, dtype=np.int64)
        return of_rows if self.rows is None else np.add.reduceat(of_rows, self._starts[:-1])

    @cached_property
    def rows(self) -> np.ndarray | None:
        """Rows of the inputs that each sample becomes, int64 [samples]; None: one each."""
        return None if len(self._lengths) == self._count else np.diff(self._starts)

    @cached_property
    def _longest(self) -> np.ndarray:
        """Tokens of each sample's longest row by part, [samples, parts]."""
        if self.rows is None:
            return self._lengths
        return np.maximum.reduceat(self._lengths, self._starts[:-1])

    def positions(self, ids: np.ndarray) -> int:
        """The tokens of these samples' batch, and its padding."""
        rows = len(ids) if self.rows is None else int(self.rows[ids].sum())
        return rows * int(self._longest[ids].max(axis=0).sum())

    def address(self, index: int) -> str:
        """Where row `index` stands: `data/train.csv:1042`."""
        start, end = self._address_offsets[index : index + 2]
        text = self._addresses[start:end].tobytes().decode()
        return self.location + text if text.startswith(":") else text


class StoreWriter:
    """Writes a store row by row; a context manager, and only a clean exit makes a store of it.

    Rows are kept until there are some hundreds, and then written column by column: that takes a
    fraction of the time.

    Args:
        path: The store's folder, which is made.
        location: The start that the rows' addresses share and that the store leaves out.
    """

    def __init__(self, path: Path, *, location: str = "") -> None:
        self.path, self.location, self.count = path, location, 0
        self._files = ExitStack()
        self._columns: dict[str, _Column] = {}
        self._rows: list[tuple[Example, str, Sequence[tuple[int, ...]]]] = []
        self._parts = 1
        path.mkdir(parents=True)
        self._addresses = _Column(path, _ADDRESSES, np.zeros(0, np.uint8), self._files)
        self._lengths = _Column(path, _LENGTHS, np.zeros(0, np.int32), self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._files:
            if error is None:
                self._flush()
                for column in (self._addresses, self._lengths, *self._columns.values()):
                    column.sync()
        if error is None:
            self._write_meta()

    def append(self, example: Example, address: str, lengths: Sequence[tuple[int, ...]]) -> None:
        """Adds a row, whose arrays nobody may change from now on.

        Args:
            example: The row.
            address: Where it stands.
            lengths: For each row of the inputs that it becomes its tokens, by part.

        Raises:
            PluginError: The keys, dtypes or dimensions of this row, or of one of the hundreds
                before it, are not those of the first row. Leaving the context raises it too.
        """
        self._rows.append((example, address, lengths))
        self.count += 1
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        if self.count == len(rows):  # the first ones
            for key, value in rows[0][0].items():
                self._columns[key] = _Column(self.path, key, np.asarray(value), self._files)
        for example, address, _ in rows:
            if example.keys() != self._columns.keys():
                raise PluginError(
                    f"{address}: the task gave the keys {', '.join(sorted(example))}, but "
                    f"{', '.join(sorted(self._columns))} for the rows before; each row needs the "
                    "same"
                )
        for key, column in self._columns.items():
            column.extend([(np.asarray(example[key]), address) for example, address, _ in rows])
        self._addresses.write([self._shortened(address) for _, address, _ in rows])
        lengths = np.array([each for _, _, of_rows in rows for each in of_rows], "<i4")
        self._parts = lengths.shape[1]
        counts = np.array([len(of_rows) for _, _, of_rows in rows])
        self._lengths.put(lengths.tobytes(), counts * self._parts * lengths.itemsize)

    def _shortened(self, address: str) -> bytes:
        suffix = address.removeprefix(self.location) if self.location else address
        return (suffix if suffix.startswith(":") else address).encode()

    def _write_meta(self) -> None:
        meta = {
            "format": FORMAT,
            "count": self.count,
            "parts": self._parts,
            "columns": {
                key: {"dtype": str(column.dtype), "ragged": column.ragged}
                for key, column in self._columns.items()
            },
            "files": {file.name: file.stat().st_size for file in sorted(self.path.iterdir())},
        }
        write_synced(self.path / "meta.json", json.dumps(meta, indent=1))


class _Column:
    """One key's files while they are written: all values, and where each row ends."""

    def __init__(self, path: Path, key: str, first: np.ndarray, files: ExitStack) -> None:
        if first.ndim > 1 or first.dtype.kind not in "biuf":
            raise PluginError(
                f'the task gave "{key}" as {first.ndim}-D {first.dtype}; an example holds numbers: '
                f"scalars and 1-D arrays"
            )
        self.key, self.dtype, self.ragged = key, first.dtype, first.ndim == 1
        self._end = 0
        self._values = files.enter_context((path / f"{key}.bin").open("wb", _BUFFER))
        self._offsets: IO[bytes] | None = None
        if self.ragged:
            self._offsets = files.enter_context((path / f"{key}.offsets.bin").open("wb", _BUFFER))
            self._offsets.write(bytes(8))

    def extend(self, values: Sequence[tuple[np.ndarray, str]]) -> None:
        """Writes the values of rows, which come with their addresses, if all are of one kind."""
        dtype, dimensions = self.dtype, int(self.ragged)
        for value, address in values:
            if value.dtype != dtype or value.ndim != dimensions:
                raise PluginError(
                    f'{address}: the task gave "{self.key}" as {value.ndim}-D {value.dtype}, but '
                    f"{dimensions}-D {dtype} for the rows before; each row needs the same"
                )
        self.write([value.tobytes() for value, _ in values])

    def write(self, values: Sequence[bytes]) -> None:
        """Writes the bytes of rows."""
        self.put(b"".join(values), np.fromiter(map(len, values), np.int64, len(values)))

    def put(self, values: bytes, sizes: np.ndarray) -> None:
        """Writes the bytes of rows that have so many each."""
        self._values.write(values)
        if self._offsets is not None:
            ends = self._end + np.cumsum(sizes // self.dtype.itemsize)
            self._offsets.write(ends.astype("<i8").tobytes())
            self._end = int(ends[-1])

    def sync(self) -> None:
        for file in (self._values, self._offsets):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())


def write_synced(path: Path, text: str) -> None:
    """Writes a text file and waits until it is on the disk."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _reopen(path: Path, location: str) -> TokenStore:
    return TokenStore.open(path, location=location)


def _map(path: Path, dtype: str) -> np.ndarray:
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r").view(np.ndarray)  # a plain view: slices cost half
