"""Tokens that are hidden in a text: what is in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlpkit.contracts import Row, Schema, Task, Vocabulary
from nlpkit.data.longtext import LONGEST
from nlpkit_tasks import cells
from nlpkit_tasks.mlm.codec import MlmCodec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nlpkit.contracts import TextInput
    from nlpkit_tasks.mlm.config import MlmConfig


class MlmTask(Task):
    """The first half of `mlm`."""

    longest = LONGEST

    def __init__(self, options: MlmConfig) -> None:
        self.options = options
        self.columns = {"text": (options.text,)}
        self.reads = [options.text]

    def texts(self, row: Row, *, targets: bool) -> Mapping[str, TextInput]:
        """The text."""
        return {"text": cells.text(row, self.options.text)}

    def fit(self, rows: Iterable[Row]) -> Schema:
        """Nothing: a text is its own target."""
        return {}

    def codec(self, schema: Schema, vocabulary: Vocabulary) -> MlmCodec:
        """The other half."""
        return MlmCodec(self, schema, vocabulary)
