"""A text that is written by another: what is in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlpkit.contracts import Row, Schema, Task, Vocabulary
from nlpkit_tasks import cells
from nlpkit_tasks.seq2seq.codec import Seq2SeqCodec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nlpkit.contracts import TextInput
    from nlpkit_tasks.seq2seq.config import Seq2SeqConfig


class Seq2SeqTask(Task):
    """The first half of `seq2seq`: two parts, `source` and `target`."""

    def __init__(self, options: Seq2SeqConfig) -> None:
        self.options = options
        self.columns = {"source": (options.source,)}
        self.reads = [options.source, options.target]

    def texts(self, row: Row, *, targets: bool) -> Mapping[str, TextInput]:
        """The source; with targets both."""
        found = {"source": cells.text(row, self.options.source)}
        return found | ({"target": cells.text(row, self.options.target)} if targets else {})

    def fit(self, rows: Iterable[Row]) -> Schema:
        """Nothing: a text is its own target."""
        return {}

    def codec(self, schema: Schema, vocabulary: Vocabulary) -> Seq2SeqCodec:
        """The other half."""
        return Seq2SeqCodec(self, schema, vocabulary)
