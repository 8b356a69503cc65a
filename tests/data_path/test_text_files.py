"""Files of plain text: lines, paragraphs or all of it, as rows."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from nlpkit.contracts import Row
from nlpkit.data import longtext
from nlpkit.errors import DataError
from nlpkit_data import text
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files

TEXT = "one line\n\n  two \n three\n \t\n\nfour\n"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def of(content: str | bytes, document: str, name: str = "a.txt", **options: Any) -> list[Any]:
    data = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    rows = Files(FilesConfig(document=document, **options)).rows(name)
    return [
        (each.address, each.values["text"]) if isinstance(each, Row) else str(each) for each in rows
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("last", ["\n", ""])
def test_lines_paragraphs_or_all_of_it_are_rows_at_their_first_line(name, last):
    content = TEXT.removesuffix("\n") + last
    lines = {1: "one line", 3: "  two ", 4: " three", 7: "four"}
    expected = [(f"{name}:{number}", line) for number, line in lines.items()]
    assert of(content, "line", name) == expected
    paragraphs = {1: "one line", 3: "  two \n three", 7: "four"}
    expected = [(f"{name}:{number}", each) for number, each in paragraphs.items()]
    assert of(content, "paragraph", name) == expected
    assert of(content, "file", name) == [(f"{name}:1", content)]


def test_ends_of_lines_are_those_of_any_system():
    windows = TEXT.replace("\n", "\r\n")
    assert [row[1] for row in of(windows, "line")] == [row[1] for row in of(TEXT, "line")]
    assert of(windows, "paragraph")[1] == ("a.txt:3", "  two \r\n three")
    assert of("one\rtwo\r", "line") == [("a.txt:1", "one"), ("a.txt:2", "two")]
    assert of("\ufeffone\n", "file") == [("a.txt:1", "one\n")]


@pytest.mark.parametrize("document", ["line", "paragraph", "file"])
def test_a_file_of_nothing_is_named(document):
    for content in ("", "\n \t\n"):
        with pytest.raises(DataError, match=r"a.txt: the file is empty"):
            of(content, document)


def test_a_character_that_no_text_has_is_a_bad_row():
    problem = "holds a NUL character (remove it; where the file is UTF-16, data.encoding: "
    for document in ("line", "paragraph", "file"):
        (found,) = (each for each in of("a\nb\n\0c", document) if isinstance(each, str))
        assert found.startswith(f"a.txt:3: {problem}")


def test_another_encoding_is_declared():
    assert of("卡\n".encode("gb18030"), "line", encoding="gb18030") == [("a.txt:1", "卡")]
    with pytest.raises(DataError, match="is not UTF-8"):
        of("卡\n".encode("gb18030"), "file")


def test_what_is_too_long_is_a_bad_row_and_the_rest_is_read(monkeypatch):
    monkeypatch.setattr(text, "LONGEST", 5)
    monkeypatch.setattr(longtext, "LONGEST", 20)
    problem = "has more than 5 characters (data.document: file takes longer ones)"
    assert of("123456\n12345\n", "line") == [f"a.txt:1: {problem}", ("a.txt:2", "12345")]
    assert of("12\n\n123\n456\n\n12", "paragraph") == [
        ("a.txt:1", "12"),
        f"a.txt:3: {problem}",
        ("a.txt:6", "12"),
    ]
    assert of("12345\n" * 3, "file") == [("a.txt:1", "12345\n" * 3)]
    problem = "has more than 20 characters (data.document: line or paragraph takes any number)"
    assert of("12345\n" * 4, "file") == [f"a.txt:1: {problem}"]


def test_a_row_of_a_file_has_the_fingerprint_of_its_content(tmp_path):
    Path("a.txt").write_text("one\n")
    before = Files(FilesConfig()).fingerprint("a.txt")
    Path("b.txt").write_text("one\n")
    assert Files(FilesConfig()).fingerprint("b.txt") == before
    Path("a.txt").write_text("two\n")
    assert Files(FilesConfig()).fingerprint("a.txt") != before
