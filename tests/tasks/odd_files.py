"""Odd files of text, and what becomes of them."""

from __future__ import annotations

import gzip

import pytest

from nlpkit_data import text as txt
from tests.tasks.language import texts

LINES = "\n".join(texts(9)).encode() + b"\n"


def files_that_are_whole(odd):
    plain = odd.rows("a.txt", LINES)
    assert len(plain) == 9
    blank = LINES.replace(b"\n", b"\n \t\n\n")
    for content in (b"\xef\xbb\xbf" + LINES, LINES.replace(b"\n", b"\r\n"), blank, LINES[:-1]):
        assert odd.rows("a.txt", content) == plain
    assert odd.rows("a.txt.gz", gzip.compress(LINES)) == plain


def files_that_are_not(odd):
    for content in (b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n\t\n"):
        assert odd.read("a.txt", content) == [
            "data.train: a.txt: the file is empty (it holds texts)"
        ]
    (error,) = odd.read("a.txt", LINES + "café noir\n".encode("latin-1"))
    assert error.startswith("data.train: a.txt:10: byte 0xe9 at offset ")
    assert 'is not UTF-8, but as CP1252 it reads "café noir" (if that is right, data.enc' in error
    for content in (gzip.compress(LINES * 90)[:-20], LINES):
        (error,) = odd.read("a.txt.gz", content)
        assert error.startswith("data.train: a.txt.gz: is not a whole gzip file (")
        assert error.endswith(" (copy it again, or pack it again)")


def a_nul(odd):
    for document in ("line", "paragraph", "file"):
        (error, *_) = odd.read("a.txt", LINES + b"a\0b\n", document=document, validation=None)
        assert error.startswith("a.txt:10: holds a NUL character (remove it; where the file is UTF")


def lines_without_end(odd):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(txt, "LONGEST", 3_000_000)
        patch.setattr("nlpkit.data.encoding.LONGEST", 3_000_000)
        patch.setattr("nlpkit.commands.prediction_rows.LONGEST", 3_000_000)
        patch.setattr("nlpkit.data.longtext.LONGEST", 3_000_000)
        content = LINES + b"the cat " * 500_000 + b"\n"
        for document in ("line", "paragraph", "file"):
            (error,) = odd.read("a.txt", content, document=document, validation=None)
            assert "has more than 3,000,000 characters (data.document: " in error
        *_, last = odd.lines("clm", content.decode())
        assert last["text"] is None
        assert last["error"].endswith("in.txt:10: has more than 3,000,000 characters")
