"""The next token of a text: what is in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlpkit.contracts import Row, Schema, Task, Vocabulary
from nlpkit.data.longtext import LONGEST
from nlpkit_tasks import cells
from nlpkit_tasks.clm.codec import ClmCodec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nlpkit.contracts import TextInput
    from nlpkit_tasks.clm.config import ClmConfig


class ClmTask(Task):
    """The first half of `clm`: two parts, `prompt` and `text`, where there are prompts."""

    longest = LONGEST

    def __init__(self, options: ClmConfig) -> None:
        self.options = options
        self.columns = {"text": (options.text,)}
        if options.prompt:
            self.columns = {"prompt": (options.prompt,)}
        self.reads = [options.text, *filter(None, [options.prompt])]

    def texts(self, row: Row, *, targets: bool) -> Mapping[str, TextInput]:
        """The text; with prompts the prompt, and with targets both."""
        found = {part: cells.text(row, column) for part, (column,) in self.columns.items()}
        return found | ({"text": cells.text(row, self.options.text)} if targets else {})

    def fit(self, rows: Iterable[Row]) -> Schema:
        """Nothing: a text is its own target."""
        return {}

    def codec(self, schema: Schema, vocabulary: Vocabulary) -> ClmCodec:
        """The other half."""
        return ClmCodec(self, schema, vocabulary)
