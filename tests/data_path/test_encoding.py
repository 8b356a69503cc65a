"""Text is read in the encoding that is declared; what does not fit is an error with its place."""

from __future__ import annotations

import io

import pytest
from pydantic import ValidationError

from nlpkit.data.encoding import lines
from nlpkit.errors import DataError
from nlpkit_data.config import FilesConfig

CHINESE = (
    "text,label\n你好，我的卡还没有到，请问还要等多久？谢谢您的帮助，祝您工作顺利,物流\n再见,其他\n"
)


def read(content: bytes, encoding: str = "auto") -> list[str]:
    return list(lines(io.BytesIO(content), "a.csv", encoding))


def error(content: bytes, encoding: str = "auto") -> str:
    with pytest.raises(DataError) as caught:
        read(content, encoding)
    return str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("auto", "utf-8"),
        ("auto", "utf-8-sig"),
        ("utf-8", "utf-8-sig"),
        ("gb18030", "gb18030"),
        ("gb18030", "utf-8-sig"),  # the mark counts more
        ("GBK", "gbk"),
        ("big5hkscs", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_lines_come_whole_and_without_a_mark(encoding: str, written: str, end: str) -> None:
    text = CHINESE.removesuffix("\n").replace("\n", end or "\n") + end
    assert "".join(read(text.encode(written), encoding)) == text
    assert len(read(text.encode(written), encoding)) == 3


def test_bytes_of_a_line_end_inside_a_character_end_no_line() -> None:
    text = "a\u0a0a\u010a,b\nĊ਀\n"  # each has 0x0a in UTF-16
    for encoding in ("utf-16-le", "utf-16-be", "utf-16"):
        assert read(text.encode(encoding), encoding) == text.splitlines(keepends=True)


def test_what_may_be_gb18030_is_shown_as_it_would_read_and_not_read() -> None:
    assert error(CHINESE.encode("gb18030")) == (
        "a.csv:2: byte 0xc4 at offset 11 of the file is not UTF-8, but as GB18030 it reads "
        '"你好，我的卡还没有到，请问还要等多久？谢谢您的帮助，祝您工…" '
        "(if that is right, data.encoding: gb18030; else save the file as UTF-8)"
    )


def test_the_sample_begins_where_the_line_is_not_ascii() -> None:
    found = error(b"x" * 500 + "你好".encode("gb18030") + b"\n")
    assert 'it reads "xxxxxxxxxx你好"' in found


@pytest.mark.parametrize(
    "content",
    [
        "é\nçà va\n".encode() + b"\xff\n",
        "你好吗\n".encode() + "你好\n".encode("gb18030"),  # mixed: the first line cannot be it
        "你好\n".encode("gb18030") + b"\xff\n",  # what follows cannot
        "你好".encode("gb18030")[:-1],
        "你好\n".encode("big5") + "再見嗎\xe9\n".encode("latin-1", "replace"),
    ],
)
def test_no_encoding_is_named_where_the_file_can_be_none(content: bytes) -> None:
    assert error(content).endswith(
        "is not UTF-8 (save the file as UTF-8, or set data.encoding to what it is)"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Les cafés étaient fermés",  # as GB18030 it is "Les caf閟 閠aient ferm閟"
        "coração, ação",  # and this "cora玢o, a玢o"
        "Größe: 3 € – “so”",
        "It’s late",
    ],
)
def test_western_text_is_shown_as_it_would_read(text: str) -> None:
    found = error(f"text\n{text}\n".encode("cp1252") + b"card,lost\n" * 30_000)
    assert found.startswith("a.csv:2: byte ")
    assert f'is not UTF-8, but as CP1252 it reads "{text}" (if that is right, data.enc' in found


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("Привет, как дела", "cp1251"), ("złoty, łódź, był, mały", "cp1250"), ("è ½ ¼ ¾", "cp1252")],
)
def test_text_that_is_hardly_western_is_not_shown_so(text: str, encoding: str) -> None:
    assert "CP1252" not in error(f"{text}\n".encode(encoding))


@pytest.mark.parametrize("before", [3, 3_000, 30_000])  # the last ones take several blocks
def test_the_place_of_a_wrong_byte_is_exact_wherever_it_is(before: int) -> None:
    good = "卡还没有到,物流\n".encode() + b"card,lost\n"
    wrong = good * before + b"card,caf\xe9\n" + good
    assert error(wrong) == (
        f"a.csv:{2 * before + 1}: byte 0xe9 at offset {len(good) * before + 8} of the file is not "
        "UTF-8 (save the file as UTF-8, or set data.encoding to what it is)"
    )
    reading = lines(io.BytesIO(wrong), "a.csv")
    assert all(next(reading) for _ in range(2 * before))  # all that is good comes before


def test_gb18030_is_judged_by_what_comes_before_and_after() -> None:
    line = "卡还没有到,物流\n"
    wrong = b"text,label\n" + b"card,lost\n" * 20_000 + line.encode("gb18030")
    assert "as GB18030 it reads" in error(wrong + b"card,lost\n")
    assert "GB18030" not in error(wrong + b"card,caf\xe9\n")
    utf_8 = "卡,lost\n".encode()  # three bytes, which GB18030 has in pairs
    assert "GB18030" not in error(wrong[:11] + utf_8 + wrong[11:])


def test_a_declared_encoding_that_is_wrong_is_an_error_with_line_and_offset() -> None:
    assert error(CHINESE.encode(), "ascii") == (
        "a.csv:2: byte 0xe4 at offset 11 of the file is not ascii "
        "(the line is UTF-8: data.encoding: auto)"
    )
    assert error("a\n你,\n".encode("gb18030") + b"\xff\n", "gb18030") == (
        "a.csv:3: byte 0xff at offset 6 of the file is not gb18030 "
        "(save the file as UTF-8, or set data.encoding to what it is)"
    )
    assert error("a\nb\n\u010ac".encode("utf-16-be") + b"\xd8\x00\x00\n", "utf-16-be").startswith(
        "a.csv:3: byte 0xd8 at offset 12 of the file is not utf-16-be"
    )
    assert error(b"\0a\xd8\n\0b", "utf-16-be").startswith("a.csv:1: byte 0xd8 at offset 2 of")
    assert error(b"a\rb\rc\xff\rd", "utf-8").startswith("a.csv:3: byte 0xff at offset 5 ")


def test_utf_16_says_what_it_is() -> None:
    assert error(CHINESE.encode("utf-16")) == (
        "a.csv: begins with the byte order mark of UTF-16 (data.encoding: utf-16)"
    )
    assert error(CHINESE.encode("utf-32")).endswith("(data.encoding: utf-32)")
    assert "utf-16-le or utf-16-be" in error(CHINESE.encode("utf-16-le"), "utf-16")
    assert "a.csv:1: byte 0x00 at" in error(b'"""\0\0\xd8\0\0', "utf-16")  # broken, and unmarked


def test_latin_1_is_read_where_it_is_declared() -> None:
    assert read(b"caf\xe9\n", "latin-1") == ["café\n"]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("gb18031", 'did you mean "gb18030"?'), ("rot13", "is no encoding"), ("", "is no encoding")],
)
def test_an_unknown_encoding_is_an_error_of_the_config(encoding: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("?", r"\?")):
        FilesConfig(encoding=encoding)
