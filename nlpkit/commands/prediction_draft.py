"""An output file that is gone on with after an interruption.

Rows are predicted in windows: a file that goes on after whole windows gets the same batches, and so
the same bytes, as one that nothing interrupted. After each a note beside the file says what it
holds: {"rows", "bad", "fingerprint" of these rows, "bytes"}; what stands behind these is cut off.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack, contextmanager
from functools import partial
from glob import escape
from itertools import islice
from typing import TYPE_CHECKING, Any

from nlpkit.commands.prediction_lines import Lines
from nlpkit.errors import InputError, RunError
from nlpkit.files import locked, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from nlpkit.bundle.forms import Form
    from nlpkit.bundle.predict import Model
    from nlpkit.commands.prediction_lines import Given


_CHANGED = "give the input as it was, or remove that file to begin anew"


def drafts(output: Path) -> list[Path]:
    """What interrupted predictions into an output left beside it."""
    return _beside(output, "partial")


def _beside(output: Path, kind: str) -> list[Path]:
    return sorted(output.parent.glob(f".{escape(output.name)}.{'[0-9a-f]' * 8}.{kind}"))


class Draft:
    """The lines of an output that is not whole yet: `.<output>.<hash>.partial` beside it.

    Args:
        output: Whose name it takes when it is whole.
        form: How its lines are written.
        model: Predicts them.
        top_k: How many labels "top" has; None: there is no "top".
        keep: Columns of the input that stand before the text.
        generate: How texts are written, where a task does.
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
        generate: Mapping[str, Any] | None = None,
        **decides: object,
    ) -> None:
        self._output, self._form = output, form
        self._lines = partial(Lines, model, top_k=top_k, keep=keep, generate=generate)
        known = {**decides, "top_k": top_k, "seal": model.bundle.description["seal"]}
        known |= {"keep": keep} if keep else {}
        known |= {"generate": generate} if generate else {}
        mark = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]
        self.path = output.with_name(f".{output.name}.{mark}.partial")
        self._note = self.path.with_suffix(".rows")

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
                for note in _beside(self._output, "rows"):  # others were of what stood there before
                    note.unlink()
            except BaseException as error:
                if not (keep and self.path.exists() and self.path.stat().st_size):
                    self.path.unlink(missing_ok=True)
                    self._note.unlink(missing_ok=True)
                if isinstance(error, OSError) and error.strerror and not error.filename:
                    error.filename = str(self._output)  # a full disk does not say where
                raise

    def resume(self, rows: Iterator[Given]) -> Lines:
        """The lines that are not in it yet; the rows of those that are must be the same.

        Raises:
            InputError: They are not, or there are fewer rows than lines.
        """
        lines, note = self._lines(rows), self._noted()
        if self.path.stat().st_size < note["bytes"]:  # it is of a file that is gone
            self._note.unlink()
            return lines
        last = lines.skip(note["rows"], note["bad"])
        if lines.total < note["rows"]:
            raise InputError(f"{self.path}: has more lines than the input rows; {_CHANGED}")
        if last and lines.fingerprint.hexdigest() != note["fingerprint"]:
            raise InputError(
                f"{last.address}: the rows up to here are others than in {self.path}; {_CHANGED}"
            )
        return lines

    def write(self, lines: Lines, advance: Callable[[int], None]) -> None:
        """Adds the lines after those that `resume` found; `advance` is told how many."""
        records, before, size = map(self._form.record, lines), lines.total, self._noted()["bytes"]
        try:
            self._file.truncate(size)
            while block := b"".join(islice(records, lines.window)):
                rest = memoryview(block if size else self._form.head + block)
                size += len(rest)
                while rest:
                    rest = rest[self._file.write(rest) :]
                if lines.total % lines.window == 0:  # the last ones may be those of a shorter one
                    os.fsync(self._file.fileno())
                    self._write_note(lines, size)
                advance(lines.total - before)
                before = lines.total
        except BaseException:
            self._file.truncate(self._noted()["bytes"])
            raise

    def check(self, lines: Lines, place: str) -> None:
        """`Lines.check`; where it raises there is nothing to go on with."""
        try:
            lines.check(place)
        except InputError:
            self._file.truncate(0)
            raise

    def finish(self, lines: Lines) -> None:
        """Leaves the note beside the output, so that `is_whole` is true of it."""
        self._write_note(lines, self._output.stat().st_size)

    def is_whole(self, rows: Iterator[Given]) -> bool:
        """Whether the output is what was finished for these rows."""
        lines, note = self._lines(rows), self._noted()
        if not (self._output.exists() and 0 < note["bytes"] == self._output.stat().st_size):
            return False
        lines.skip(note["rows"] + 1)
        return (lines.total, lines.fingerprint.hexdigest()) == (note["rows"], note["fingerprint"])

    def _noted(self) -> dict[str, Any]:
        if not self._note.exists():
            return {"rows": 0, "bad": 0, "bytes": 0}
        found: dict[str, Any] = json.loads(self._note.read_bytes())
        return found

    def _write_note(self, lines: Lines, size: int) -> None:
        note = {"rows": lines.total, "bad": lines.bad, "bytes": size}
        write_json(self._note, {**note, "fingerprint": lines.fingerprint.hexdigest()})
