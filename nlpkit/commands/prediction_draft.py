"""An output file that is gone on with after an interruption.

Rows are predicted in windows: a file that goes on after whole windows gets the same batches, and so
the same bytes, as one that nothing interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack, contextmanager
from functools import partial
from glob import escape
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING

from nlpkit.commands.prediction_lines import ROWS, Lines, known_of
from nlpkit.errors import InputError, RunError
from nlpkit.files import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nlpkit.bundle.forms import Form
    from nlpkit.bundle.predict import Model
    from nlpkit.commands.prediction_lines import Given


_CHANGED = "give the input as it was, or remove that file to begin anew"


def drafts(output: Path) -> list[Path]:
    """What interrupted predictions into an output left beside it."""
    return sorted(output.parent.glob(f".{escape(output.name)}.{'[0-9a-f]' * 8}.partial"))


class Draft:
    """The lines of an output that is not whole yet: `.<output>.<hash>.partial` beside it.

    Args:
        output: Whose name it takes when it is whole.
        form: How its lines are written.
        model: Predicts them.
        top_k: How many labels "top" has; None: there is no "top".
        keep: Columns of the input that stand before the text.
        decides: What else decides its lines; the hash is of all that does.
    """

    def __init__(
        self,
        output: Path,
        form: Form,
        model: Model,
        *,
        top_k: int | None,
        keep: Sequence[str] = (),
        **decides: object,
    ) -> None:
        self._output, self._form, self._keep = output, form, keep
        self._columns = model.columns
        self._lines = partial(Lines, model, top_k=top_k, keep=keep)
        known = {**decides, "top_k": top_k, "seal": model.bundle.description["seal"]}
        known |= {"keep": keep} if keep else {}
        mark = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]
        self.path = output.with_name(f".{output.name}.{mark}.partial")
        self._size = 0

    @contextmanager
    def opened(self, *, keep: bool) -> Iterator[None]:
        """Has the file for this process alone; it becomes the output when the block ends well.

        Args:
            keep: Whether it stays where the block fails, if there is something in it.

        Raises:
            RunError: Another process has it.
        """
        with ExitStack() as held:
            try:
                held.enter_context(locked(self.path.with_name(f"{self.path.name}.lock")))
            except TimeoutError:
                raise RunError(f"{self._output}: another process is writing it") from None
            try:
                with self.path.open("ab", buffering=0) as self._file:
                    yield
                    os.fsync(self._file.fileno())
                self.path.replace(self._output)
            except BaseException as error:
                if not (keep and self.path.exists() and self.path.stat().st_size):
                    self.path.unlink(missing_ok=True)
                if isinstance(error, OSError) and error.strerror and not error.filename:
                    error.filename = str(self._output)  # a full disk does not say where
                raise

    def resume(self, rows: Iterator[Given]) -> Lines:
        """The lines that are not in it yet; those that are must be of the same texts.

        Raises:
            InputError: They are not, or there are fewer rows than lines.
        """
        lines = self._lines(rows)
        with self.path.open("rb") as file:
            if file.read(len(self._form.head)) != self._form.head:
                return lines
            records = self._form.records(file)
            while True:
                window, kept = list(islice(rows, ROWS)), list(islice(records, ROWS))
                if len(window) < len(kept):
                    raise InputError(f"{self.path}: has more lines than the input rows; {_CHANGED}")
                bad = sum(map(self._is_bad, window, kept))
                if len(kept) < ROWS:
                    lines.rows = chain(window, rows)
                    return lines
                lines.bad += bad
                lines.total += ROWS
                self._size += sum(map(len, kept)) + (0 if self._size else len(self._form.head))

    def write(self, lines: Lines, advance: Callable[[int], None]) -> None:
        """Adds the lines after those that `resume` found; `advance` is told how many."""
        records, before = map(self._form.record, lines), lines.total
        try:
            self._file.truncate(self._size)
            while block := b"".join(islice(records, ROWS)):
                block = block if self._size else self._form.head + block
                rest = memoryview(block)
                while rest:
                    rest = rest[self._file.write(rest) :]
                self._size += len(block)
                advance(lines.total - before)
                before = lines.total
        except BaseException:
            self._file.truncate(self._size)
            raise

    def check(self, lines: Lines, place: str) -> None:
        """`Lines.check`; where it raises there is nothing to go on with."""
        try:
            lines.check(place)
        except InputError:
            self._file.truncate(0)
            raise

    def is_whole(self, rows: Iterator[Given]) -> bool:
        """Whether the output is finished: it has the lines of the first window, and all texts."""
        if not self._output.exists():
            return False
        with self._output.open("rb") as file:
            head, records = file.read(len(self._form.head)), self._form.records(file)
            first = self._lines(islice(rows, ROWS))
            found = [self._form.record(line) for line in first]
            if head != self._form.head or found != list(islice(records, ROWS)):
                return False
            return bool(found) and all(
                row and record and record.startswith(self._start(row))
                for row, record in zip_longest(rows, records)
            )

    def _start(self, row: Given) -> bytes:
        return self._form.start(known_of(row, self._columns, self._keep))

    def _is_bad(self, row: Given, record: bytes) -> bool:
        start = self._start(row)
        if not record.startswith(start):
            raise InputError(
                f"{row.address}: says something else than its line in {self.path}; {_CHANGED}"
            )
        return self._form.bad(record, start)
