"""Lines of text from bytes: what does not fit the encoding is an error with its place.

Nothing is guessed: a file is read as it is declared, and where it cannot be, the message says what
it may be.
"""

from __future__ import annotations

import codecs
import encodings.aliases
import io
import re
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from nlpkit.errors import DataError, closest, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

AUTO = "auto"
"""UTF-8, with or without a byte order mark."""
LONGEST = 10_000_000
"""Characters of a line that are kept, about; one with more is no line, but a quote that is open."""

_CHINESE = "gb18030"  # what Excel writes in China, and a superset of GBK and GB2312
_WESTERN = "cp1252"  # what it writes in Western Europe and America
_HIGH = re.compile(rb"[\x80-\xff]+")
_ALONE = re.compile(
    rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])|[a-zA-Z][\x80-\xff]{2}(?=[a-zA-Z])"
)
_SIGNS = "\xa0€…–—‘’“”«»¿¡°"  # that Western texts have beside letters
_SAMPLE = 30  # characters that a message shows, a third of them before what is not ASCII
_BLOCK = 1 << 20
_TOGETHER = 1 << 14  # bytes that are decoded at once
_UNKNOWN = "save the file as UTF-8, or set data.encoding to what it is"


def checked(encoding: str) -> str:
    """An encoding that Python knows, or "auto". Raises ValueError."""
    try:
        if encoding != AUTO:
            b"text".decode(encoding, "replace")
    except (LookupError, ValueError):
        known = [AUTO, "utf-8", *encodings.aliases.aliases, *encodings.aliases.aliases.values()]
        guess = closest(encoding, known)
        meant = f'; did you mean "{guess}"?' if guess else ", such as utf-8, gb18030 or latin-1"
        raise ValueError(f'"{encoding}" is no encoding{meant}') from None
    return encoding


def lines(
    file: IO[bytes], address: str, encoding: str = AUTO, cut: list[int] | None = None
) -> Iterator[str]:
    """The lines of a file, each with its end; where all of them end in lone CRs, those.

    A file that begins with UTF-8's byte order mark is UTF-8, whatever is declared. Of a line that
    is longer than LONGEST a part in the middle is left out, so that memory stays bounded.

    Args:
        file: The bytes.
        address: What errors begin with.
        encoding: AUTO, or one that Python knows.
        cut: Gets the numbers of the lines that are not whole.

    Raises:
        DataError: At bytes that the encoding does not have, with line and offset.
    """
    whole = _whole(_Decoding(file, address, encoding), [] if cut is None else cut)
    for line in whole:
        yield from io.StringIO(line, newline="")
        break
    yield from whole


def blocks(file: IO[bytes], address: str, encoding: str = AUTO) -> Iterator[str]:
    """The text of a file in blocks, however long its lines; as `lines` in all else."""
    return iter(_Decoding(file, address, encoding))


def _whole(pieces: _Decoding, cut: list[int]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        if end := piece.rfind("\n") + 1:
            yield from io.StringIO(rest + piece[:end], newline="\n")
            rest = piece[end:]
        elif len(rest) < LONGEST:
            rest += piece
        elif piece and cut[-1:] != [pieces.line]:
            cut.append(pieces.line)
    if rest:
        yield rest


class _Decoding:
    """Texts of a file's blocks, which end where it has a byte 0x0a: not always a line's end."""

    def __init__(self, file: IO[bytes], address: str, encoding: str) -> None:
        self._file, self._address, self._declared = file, address, encoding
        self.line, self._offset = 1, 0
        self._high = b""  # the last block before with more than ASCII

    def __iter__(self) -> Iterator[str]:
        block = self._read()
        encoding = codecs.lookup(self._encoding(block))
        self._name = "UTF-8" if encoding.name.startswith("utf-8") else self._declared
        decoder = encoding.incrementaldecoder()
        while block:
            following, state = self._read(), decoder.getstate()
            fault: UnicodeError | None = None
            try:
                text = decoder.decode(block, final=not following)
            except UnicodeError as error:
                fault, text = error, ""
                decoder.setstate(state)
                with suppress(UnicodeError):  # what comes before is good
                    text = decoder.decode(block[: _place(error, block)])
            self.line += text.count("\n")
            yield text if self._offset else text.removeprefix("\ufeff")
            if fault:
                self.line += text.count("\r") if self.line == 1 else 0
                problem, remedy = self._explained(fault, block, following)
                raise DataError(f"{self._address}:{self.line}", problem=problem, remedy=remedy)
            self._offset += len(block)
            self._high = self._high if block.isascii() else block
            block = following

    def _read(self) -> bytes:
        return self._file.read(_TOGETHER) + self._file.readline(_BLOCK)

    def _encoding(self, first: bytes) -> str:
        if first.startswith(codecs.BOM_UTF8):
            return "utf-8"
        if self._declared != AUTO:
            return self._declared
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            name = "utf-32" if first.startswith(codecs.BOM_UTF32_LE) else "utf-16"
            problem = f"begins with the byte order mark of {name.upper()}"
            raise DataError(self._address, problem=problem, remedy=f"data.encoding: {name}")
        return "utf-8"

    def _explained(self, fault: UnicodeError, block: bytes, following: bytes) -> tuple[str, str]:
        """The problem and the remedy."""
        if not isinstance(fault, UnicodeDecodeError):  # UTF-16 without the mark that says which one
            return f"is not {self._name} ({fault})", "data.encoding: utf-16-le or utf-16-be"
        at = self._offset + len(block) - len(fault.object) + fault.start
        byte = fault.object[fault.start]
        problem = f"byte {byte:#04x} at offset {at} of the file is not {self._name}"
        start = block.rfind(b"\n", 0, _place(fault, block)) + 1
        end = block.find(b"\n", start) + 1 or len(block)
        before, line, after = self._high + block[:start], block[start:end], block[end:] + following
        if self._name != "UTF-8":
            return problem, "the line is UTF-8: data.encoding: auto" if _is_utf_8(
                line
            ) else _UNKNOWN
        if candidate := _candidate(before, line, after + self._file.read(_BLOCK)):
            name, sample = candidate
            problem += f', but as {name.upper()} it reads "{sample}"'
            return problem, f"if that is right, data.encoding: {name}; else save the file as UTF-8"
        return problem, _UNKNOWN


def _place(error: UnicodeError, block: bytes) -> int:
    """Where in a block a wrong byte is; 0 where a character has begun before it."""
    if not isinstance(error, UnicodeDecodeError):
        return 0
    return max(0, error.start - len(error.object) + len(block))


def _candidate(before: bytes, line: bytes, after: bytes) -> tuple[str, str] | None:
    """An encoding that a file can be in, and what a line is then.

    GB18030 takes many Western texts too, but in those bytes that are not ASCII stand alone, or two
    between letters, as a rule.
    """
    alone, runs = (len(each.findall(line + after)) for each in (_ALONE, _HIGH))
    western = before.isascii() and 2 * alone > runs
    name = _WESTERN if western else _CHINESE
    decoder = codecs.getincrementaldecoder(name)()
    try:
        decoder.decode(before)
        text = decoder.decode(line)
        rest = decoder.decode(after, final=len(after) < _BLOCK)
    except UnicodeDecodeError:
        return None
    high = [each for each in text + rest if not each.isascii()]
    if western and 10 * sum(map(_is_western, high)) < 9 * len(high):
        return None
    start = next((at for at, letter in enumerate(text) if not letter.isascii()), 0)
    return name, shorten(text[max(0, start - _SAMPLE // 3) :], _SAMPLE)


def _is_western(letter: str) -> bool:
    return letter.isalpha() or letter in _SIGNS


def _is_utf_8(piece: bytes) -> bool:
    try:
        return not piece.decode().isascii()
    except UnicodeDecodeError:
        return False
