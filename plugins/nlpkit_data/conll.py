"""Rows of `.conll` and `.bio` files: a word a line with its tag, and sentences between blank lines.

Such files have neither header nor quotes, and often columns between word and tag (parts of speech),
which are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain
from typing import IO, TYPE_CHECKING

from nlpkit.contracts import Row
from nlpkit.data.encoding import lines
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nlpkit_data.config import FilesConfig
    from nlpkit_data.delimited import Say

    Split = Callable[[str], list[str]]

_SAMPLE = 20  # lines that say how many columns the file has
_LONGEST = 2_000_000  # characters of a sentence; no text has more
_DOCUMENT = "-DOCSTART-"  # what CoNLL 2003 writes between documents, as a word
_BLANKS = re.compile("[ \t]+")  # others may be in a word


def read_conll(
    file: IO[bytes], address: str, options: FilesConfig, say: Say
) -> Iterator[Row | DataError]:
    """Sentences, each at the line of its first word: `tokens` and `tags`, lists of text.

    The first column is the word and the last one the tag; a file of one column has no tags. Tabs
    separate, else blanks. A sentence with a line that is broken is given as the error of that line.

    Raises:
        DataError: The file has no words.
    """
    text = lines(file, address, options.encoding)
    head, sample = list[str](), list[str]()
    while len(sample) < _SAMPLE and (line := next(text, "")):
        head.append(line)
        if not _divides(line):
            sample.append(line[:_LONGEST])
    if not sample:
        remedy = "a line is a word and its tag, and a blank line ends a sentence"
        raise DataError(address, problem="the file has no words", remedy=remedy)
    split, width = _columns(sample)
    first = size = 0
    words, tags, error = list[str](), list[str](), None
    for number, line in enumerate(chain(head, text, [""]), 1):
        if not _divides(line):
            first, size = first or number, size + len(line)
            cells = split(line) if size <= _LONGEST else []
            error = error or _error(cells, width, size, f"{address}:{number}")
            if not error:
                words.append(cells[0])
                tags.append(cells[-1])
        elif first:
            values = {"tokens": words, "tags": tags} if width > 1 else {"tokens": words}
            yield error or Row(values, f"{address}:{first}")
            first = size = 0
            words, tags, error = [], [], None


def _divides(line: str) -> bool:
    return line.isspace() or not line or line.startswith(_DOCUMENT)


def _columns(sample: Sequence[str]) -> tuple[Split, int]:
    """What finds the cells of a line, and how many most lines have."""
    for split in (_by_tabs, _by_blanks):
        ((width, _),) = Counter(len(split(line)) for line in sample).most_common(1)
        if width > 1:
            break
    return split, width


def _by_tabs(line: str) -> list[str]:
    return [cell.strip(" ") for cell in line.rstrip("\r\n").split("\t")]


def _by_blanks(line: str) -> list[str]:
    return _BLANKS.split(line.strip(" \t\r\n"))


def _error(cells: Sequence[str], width: int, size: int, address: str) -> DataError | None:
    """What is wrong with a line of these cells; `size` is that of the sentence up to its end."""
    problem = remedy = ""
    if size > _LONGEST:
        problem = f"the sentence has more than {_LONGEST:,} characters"
        remedy = "a blank line ends a sentence"
    elif len(cells) != width:
        count = f"{len(cells)} column{'s' * (len(cells) != 1)}"
        problem = f"has {count}, but the lines at the file's beginning have {width}"
        remedy = "a line is a word" + ", …, its tag" * (width > 1) + "; remove comments"
        remedy += ", and separate by tabs where words hold blanks" * (len(cells) > width)
    elif not (cells[0] and cells[-1]):
        problem = f"the {'tag' if cells[0] else 'word'} is empty"
    elif "\0" in "".join(cells):
        problem = "holds a NUL character"
    return DataError(address, problem=problem, remedy=remedy) if problem else None
