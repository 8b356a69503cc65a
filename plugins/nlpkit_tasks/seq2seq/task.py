"""A text that is written by another: what is in a row."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from nlpkit.contracts import Row, Schema, Task, Vocabulary
from nlpkit_tasks import cells
from nlpkit_tasks.seq2seq.codec import Seq2SeqCodec

_LOOKED_AT = 1_000  # targets
_LETTERS, _HAN = re.compile(r"\w"), re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")

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
        """How BLEU divides the targets into `words`, where that is left to be found out."""
        if self.options.bleu != "auto":
            return {}
        targets = "".join(str(row.values[self.options.target]) for row in islice(rows, _LOOKED_AT))
        han = len(_HAN.findall(targets)) > len(_LETTERS.findall(targets)) / 2
        return {"words": "zh" if han else "13a"}

    def codec(self, schema: Schema, vocabulary: Vocabulary) -> Seq2SeqCodec:
        """The other half."""
        return Seq2SeqCodec(self, schema, vocabulary)
