"""The lines that `nlpkit predict` writes: what is in them."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from nlpkit.bundle.fields import fields
from nlpkit.bundle.forms import kept_of
from nlpkit.contracts import Row
from nlpkit.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit.bundle.forms import Line
    from nlpkit.bundle.predict import Model

Given = Row | DataError

BATCH = 64


class Lines:
    """The lines of the output, one for each row and in its order.

    Args:
        model: Predicts them.
        rows: Rows of texts, and the errors of broken ones.
        top_k: How many labels "top" has; None: there is no "top".
        keep: Columns of the input that stand before the text.
        generate: How texts are written, where a task does.

    Attributes:
        rows: Those whose lines are to come.
        total: Rows so far.
        bad: Those that could not be predicted.
        fingerprint: Of what the rows so far have to do with their lines.
        window: How many rows are predicted together.
    """

    def __init__(
        self,
        model: Model,
        rows: Iterator[Given],
        *,
        top_k: int | None,
        keep: Sequence[str] = (),
        generate: Mapping[str, Any] | None = None,
    ) -> None:
        self.rows = rows
        self.total = self.bad = 0
        self.fingerprint = hashlib.sha256()
        self.window = model.window * BATCH
        self._model, self._top_k, self._keep = model, top_k, keep
        self._asked: Any = {"batch_size": BATCH, "top_k": top_k, "generate": generate}
        self._waiting: deque[Given] = deque()
        self._first: DataError | None = None

    def __iter__(self) -> Iterator[Line]:
        for outcome in self._model.outcomes(self._noted(), **self._asked):
            known = self._known(self._waiting.popleft())
            if isinstance(outcome, DataError):
                self.bad += 1
                self._first = self._first or outcome
                yield {**known, "error": str(outcome)}
            else:
                yield {**known, **fields(outcome, self._top_k, self._model.codec.ranked)}

    def skip(self, rows: int, bad: int = 0) -> Given | None:
        """Passes over so many rows, of which some are bad; the last one."""
        row, self.bad = None, bad
        for row in islice(self.rows, rows):
            self._known(row)
        return row

    def check(self, place: str) -> None:
        """Raises what is wrong with the first text of `place` if none could be predicted."""
        if not self.total:
            raise InputError(f"{place}: has no texts")
        if self.bad == self.total:
            raise self._first or InputError(f"{place}: no text of it can be predicted")

    def _noted(self) -> Iterator[Given]:
        for row in self.rows:
            self._waiting.append(row)
            yield row

    def _known(self, row: Given) -> Line:
        """What the next line has before it is predicted: what is kept, and the text or texts."""
        line = {**kept_of(getattr(row, "kept", {}), self._keep), "text": None}
        if not isinstance(row, DataError):
            texts = list(kept_of(row.values, self._model.columns).values())
            line["text"] = texts[0] if len(texts) == 1 else texts
        self.total += 1
        self.fingerprint.update(json.dumps(line, default=str).encode())
        return line
