"""From rows to the examples of a token store."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from nlpkit.contracts import MOST_WINDOWS
from nlpkit.data.windows import windowed
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Encoding, Tokenizer

    from nlpkit.cli.render import Bar
    from nlpkit.contracts import Row, Schema, Task, TextInput
    from nlpkit.data.rows import BadRows
    from nlpkit.data.store import StoreWriter

_CHUNK = 1000  # rows; enough for the tokenizer's threads, little memory


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Tokenizes rows and writes them as examples.

    Attributes:
        task: Gives the text of a row, and its example.
        tokenizer: Truncates at the longest length as the task wants it, and does not pad.
        schema: What the task learned from the training rows.
    """

    task: Task
    tokenizer: Tokenizer
    schema: Schema

    def write(self, rows: Iterable[Row], writer: StoreWriter, bad: BadRows, bar: Bar) -> int:
        """Appends the rows to a store; those that the task cannot encode go to `bad`.

        Returns:
            How many of the written rows were truncated.
        """
        remaining, truncated = iter(rows), 0
        lost = MOST_WINDOWS if windowed(self.task) else 1  # so many more windows hold what is cut
        while chunk := list(islice(remaining, _CHUNK)):
            for row, encoding in zip(chunk, self._encodings(chunk), strict=True):
                try:
                    example = self.task.encode(row, encoding, self.schema)
                except DataError as error:
                    bad.add(error, row)
                    continue
                writer.append(example, row.address)
                truncated += len(encoding.overflowing) >= lost
            bar.advance(len(chunk))
        return truncated

    def _encodings(self, rows: Sequence[Row]) -> list[Encoding]:
        texts: list[TextInput] = [self.task.texts(row) for row in rows]
        return self.tokenizer.encode_batch(texts, is_pretokenized=isinstance(texts[0], list))
