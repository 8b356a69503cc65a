"""Rows of `.txt` files, of which `data.document` says what a text is; the column is `text`."""

from __future__ import annotations

from itertools import chain
from typing import IO, TYPE_CHECKING

from nlpkit.contracts import Row
from nlpkit.data import longtext
from nlpkit.data.encoding import LONGEST, blocks, lines
from nlpkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nlpkit_data.config import FilesConfig
    from nlpkit_data.delimited import Say

_NO_NUL = "remove it; where the file is UTF-16, data.encoding: utf-16-le or utf-16-be"


def read_txt(
    file: IO[bytes], address: str, options: FilesConfig, say: Say
) -> Iterator[Row | DataError]:
    """Lines, paragraphs or the whole file, each at its first line; without blank ones.

    The end of a line or of a paragraph is left out; a whole file is as it is.

    Raises:
        DataError: The file holds nothing.
    """
    most, remedy = LONGEST, "data.document: file takes longer ones"
    if options.document == "file":
        found: Iterable[tuple[int, str]] = _whole(blocks(file, address, options.encoding))
        most, remedy = longtext.LONGEST, "data.document: line or paragraph takes any number"
    else:
        divide = _lines if options.document == "line" else _paragraphs
        found = divide(lines(file, address, options.encoding))
    empty = True
    for number, text in found:
        here, empty = f"{address}:{number}", False
        if len(text) > most:
            problem = f"has more than {most:,} characters"
            yield DataError(here, problem=problem, remedy=remedy)
        elif (place := text.find("\0")) >= 0:
            here = f"{address}:{number + text.count(chr(10), 0, place)}"
            yield DataError(here, problem="holds a NUL character", remedy=_NO_NUL)
        else:
            yield Row({"text": text}, here)
    if empty:
        raise DataError(address, problem="the file is empty", remedy="it holds texts")


def _lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        if not line.isspace():
            yield number, line.rstrip("\r\n")


def _paragraphs(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """What stands between blank lines; no more than is needed of one that is too long."""
    paragraph, first = "", 0
    for number, line in enumerate(chain(lines, [" "]), 1):
        if not line.isspace():
            first = first or number
            paragraph += line if len(paragraph) <= LONGEST else ""
        elif first:
            yield first, paragraph.rstrip("\r\n")
            paragraph, first = "", 0


def _whole(blocks: Iterable[str]) -> Iterator[tuple[int, str]]:
    found, size = list[str](), 0
    for block in blocks:
        found.append(block)
        size += len(block)
        if size > longtext.LONGEST:
            break
    if not (text := "".join(found)).isspace() and text:
        yield 1, text
