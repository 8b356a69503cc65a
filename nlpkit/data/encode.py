"""From rows to the examples of a token store."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlpkit.contracts import MOST_WINDOWS
from nlpkit.data.windows import windowed
from nlpkit.errors import DataError
from nlpkit.plugin.imports import blaming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from tokenizers import Encoding, Tokenizer

    from nlpkit.cli.render import Bar
    from nlpkit.contracts import Row, Schema, Task, TextInput
    from nlpkit.data.rows import BadRows
    from nlpkit.data.store import StoreWriter

_CHUNK = 500  # rows; enough for the tokenizer's threads, little memory
_CHARACTERS = 1 << 19  # of a chunk; a token takes a hundred bytes of memory, a truncated one too
_AHEAD = 2  # chunks that are tokenized, without Python's lock, while one is written


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
        truncated = 0
        lost = MOST_WINDOWS if windowed(self.task) else 1  # so many more windows hold what is cut
        with ThreadPoolExecutor(max_workers=_AHEAD) as threads:
            for chunk, encodings in self._encoded(rows, threads):
                for row, encoding in zip(chunk, encodings, strict=True):
                    try:
                        example = self.task.encode(row, encoding, self.schema)
                    except DataError as error:
                        bad.add(error, row)
                        continue
                    writer.append(example, row.address)
                    truncated += len(encoding.overflowing) >= lost
                bar.advance(len(chunk))
        return truncated

    def _encoded(
        self, rows: Iterable[Row], threads: Executor
    ) -> Iterator[tuple[Sequence[Row], Sequence[Encoding]]]:
        """Chunks of rows and their encodings, while the threads make those of the next ones."""
        waiting: deque[tuple[Sequence[Row], Future[list[Encoding]]]] = deque()
        for chunk, texts in self._chunks(rows):
            waiting.append((chunk, threads.submit(self._encode_batch, texts)))
            if len(waiting) > _AHEAD:
                done, encodings = waiting.popleft()
                yield done, encodings.result()
        for done, encodings in waiting:
            yield done, encodings.result()

    def _encode_batch(self, texts: Sequence[TextInput]) -> list[Encoding]:
        first = texts[0]
        # of pairs, the fast one forgets which text a token is of, where no template says it
        fast = getattr(self.task, "ids_only", False) and not isinstance(first, tuple)
        encode = self.tokenizer.encode_batch_fast if fast else self.tokenizer.encode_batch
        with blaming("the tokenizer fails"):  # a regex of it may panic
            return encode(texts, is_pretokenized=isinstance(first, list))

    def _chunks(self, rows: Iterable[Row]) -> Iterator[tuple[list[Row], list[TextInput]]]:
        chunk: list[Row] = []
        texts: list[TextInput] = []
        size = 0
        for row in rows:
            text = self.task.texts(row)
            chunk.append(row)
            texts.append(text)
            size += len(text) if isinstance(text, str) else sum(map(len, text))
            if len(chunk) == _CHUNK or size > _CHARACTERS:
                yield chunk, texts
                chunk, texts, size = [], [], 0
        if chunk:
            yield chunk, texts
