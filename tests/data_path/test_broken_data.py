"""Broken files: what `nlpkit check` says of each, and that nothing but rows and errors comes out.

Every message has the file and the line, or the row and the column, and what to do.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlpkit.cli.main import main
from nlpkit.contracts import Row
from nlpkit.errors import DataError
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GOOD = "text,label\ngood morning,hello\nhi,hello\nbye,farewell\nso long,farewell\n"
CONFIG = "name: x\nmodel: transformer\ndevice: cpu\ndata:\n  train: {name}\n  validation: null\n"
DROP = "data.on_bad_rows: skip drops them"


def book(rows: list[list[Any]], *, sheets: int = 1) -> bytes:
    workbook, file = openpyxl.Workbook(), io.BytesIO()
    for number in range(1, sheets):
        workbook.create_sheet(f"More{number}")
    for sheet in workbook.worksheets:
        for row in rows:
            sheet.append(row)
    workbook.save(file)
    return file.getvalue()


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def gb(text: str) -> bytes:
    return text.encode("gb18030")


TABLE = [line.split(",") for line in GOOD.splitlines()]
PACKED = gzip.compress(GOOD.encode() * 50, mtime=0)
BROKEN: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "a field too many": (
        "a.csv",
        GOOD + "well, hello,hello\n",
        ("a.csv:6: has 3 fields, but the header has 2 columns (quote values that hold a", DROP),
    ),
    "a field too few": ("a.csv", GOOD + "well\n", ("a.csv:6: has 1 field", "quote values", DROP)),
    "a quote that never closes": (
        "a.csv",
        GOOD + '"well,hello\nhi,hello\n',
        (
            "a.csv:6: a quote opens in this row",
            "swallows lines 6 to 7 (close it, or double it; data.q",
        ),
    ),
    "text behind a quote": (
        "a.csv",
        GOOD + '"well"s,hello\n',
        ("a.csv:6: is not valid (',' expected after '\"')", "double the quotes in them", DROP),
    ),
    "a lone carriage return": (
        "a.csv",
        GOOD + "we\rll,hello\n",
        ("a.csv:6: holds a lone carriage return (quote the value)", DROP),
    ),
    "a NUL": ("a.csv", GOOD + "we\0ll,hello\n", ("a.csv:6: holds a NUL character", DROP)),
    "a blank before a quote": (
        "a.csv",
        GOOD + 'well, "hello, hello"\n',
        ("a.csv:6: has 3 fields", "a blank stands before a quote, which", "(remove the blank)"),
    ),
    "a delimiter that is none": (
        "a.csv",
        GOOD.replace(",", "^"),
        ('a.csv:2: column "text": does not exist', "the columns are: text^label"),
    ),
    "a value beside the columns": (
        "a.csv",
        GOOD.replace("label\n", "label,\n") + "well, hello,hello\n",
        ("a.csv:6: has a value in column C, which has no name (name it in the header", DROP),
    ),
    "another column": (
        "a.csv",
        GOOD.replace("text,label", "txt,label"),
        (
            'a.csv:2: column "txt": does not exist'.replace("txt", "text"),
            'mean "txt"?',
            "txt, label",
        ),
    ),
    "no header": (
        "a.csv",
        GOOD.removeprefix("text,label\n"),
        ('a.csv:2: column "text": does not exist', "the columns are: good morning, hello"),
    ),
    "a column twice": (
        "a.csv",
        "text,label,text\n",
        ('a.csv:1: column "text": stands twice in the header (rename one of them)',),
    ),
    "nothing": ("a.csv", "", ("a.csv: the file is empty (it needs a header and rows)",)),
    "a header alone": (
        "a.csv",
        "text,label\n",
        ("c.yaml:5: data.train: there are no train rows; name a location",),
    ),
    "an empty text": (
        "a.csv",
        GOOD + " ,hello\n",
        ('a.csv:6: column "text": the text is empty', DROP),
    ),
    "an empty label": (
        "a.csv",
        GOOD + "well,\n",
        ('a.csv:6: column "label": the label is empty', DROP),
    ),
    "one label": (
        "a.csv",
        GOOD.replace("farewell", "hello"),
        ('c.yaml:5: data.train: column "label": the training rows have one label', "at least 2"),
    ),
    "latin-1": (
        "a.csv",
        GOOD.encode() + b"caf\xe9,hello\n",
        (
            "a.csv:6: byte 0xe9 at offset 72 of the file is not UTF-8",
            'but as CP1252 it reads "café',
            "data.encoding: cp1252",
        ),
    ),
    "GB18030": (
        "a.csv",
        GOOD.encode() + gb("我的卡还没有到,物流\n"),
        (
            "a.csv:6: byte 0xce at offset 69",
            'it reads "我的卡还没有到,物流" (if that',
            ": gb18030;",
        ),
    ),
    "GB18030 in a header": (
        "a.csv",
        gb("文本,标签\n你好,物流\n"),
        (
            "a.csv:1: byte 0xce at offset 0",
            'as GB18030 it reads "文本,标签"',
            "data.encoding: gb18030",
        ),
    ),
    "GB18030 in JSON lines": (
        "a.jsonl",
        gb('{"text": "你好", "label": "a"}\n'),
        ("a.jsonl:1: byte 0xc4 at offset 10", '"text": "你好"', "data.encoding: gb18030"),
    ),
    "UTF-16 of Excel": (
        "a.tsv",
        GOOD.replace(",", "\t").encode("utf-16"),
        ("a.tsv: begins with the byte order mark of UTF-16 (data.encoding: utf-16)",),
    ),
    "UTF-16 without a mark": (
        "a.csv",
        GOOD.encode("utf-16-le"),
        ("a.csv:1: the header holds NUL characters", "data.encoding: utf-16-le"),
    ),
    "half a character": (
        "a.csv",
        GOOD.encode() + "我".encode()[:2],
        ("a.csv:6: byte 0xe6 at offset 69 of the file is not UTF-8", "save the file as UTF-8"),
    ),
    "JSON that is cut": (
        "a.jsonl",
        '{"text": "x", "label": "a"}\n{"text": "y", "lab',
        ("a.jsonl:2: is not JSON (Unterminated string", DROP),
    ),
    "JSON in one piece": (
        "a.jsonl",
        '[\n{"text": "x"}\n]\n',
        ("a.jsonl:1: is not JSON (", "each line is an object"),
    ),
    "a JSON list": (
        "a.jsonl",
        '{"text": "x", "label": "a"}\n["y", "b"]\n',
        ("a.jsonl:2: is JSON, but not an object with the columns as keys", DROP),
    ),
    "a JSON key twice": (
        "a.jsonl",
        '{"text": "x", "label": "a"}\n{"text": "y", "text": "z", "label": "a"}\n',
        ('a.jsonl:2: column "text": stands twice in the row', DROP),
    ),
    "half a surrogate pair": (
        "a.jsonl",
        '{"text": "x", "label": "a"}\n{"text": "\\ud800", "label": "a"}\n',
        ("a.jsonl:2: holds half a surrogate pair, which is no character", DROP),
    ),
    "a number for a text": (
        "a.jsonl",
        '{"text": "x", "label": "a"}\n{"text": 7, "label": "a"}\n',
        ('a.jsonl:2: column "text": "7" is not text', DROP),
    ),
    "a list for a label": (
        "a.jsonl",
        '{"text": "x", "label": "a"}\n{"text": "y", "label": ["a", "b"]}\n',
        ('a.jsonl:2: column "label":', "task.target: multilabel takes lists of labels", DROP),
    ),
    "brackets without end": (
        "a.jsonl",
        '{"text": "x", "label": "a"}\n' + "[" * 100_000,
        ("a.jsonl:2: is not JSON (", DROP),
    ),
    "a file that is packed and cut": (
        "a.csv.gz",
        PACKED[:-12],
        ("a.csv.gz: is not a whole gzip file (", "copy it again, or pack it again"),
    ),
    "a file that is not packed": (
        "a.csv.gz",
        GOOD,
        ("a.csv.gz: is not a whole gzip file (", "again"),
    ),
    "a suffix that is unknown": (
        "a.xls",
        GOOD,
        (
            'a.xls: has the suffix ".xls"',
            "they are .csv, .tsv, .jsonl, .ndjson, .conll, .bio, .txt, .parquet, .xlsx",
        ),
    ),
    "parquet that is cut": (
        "a.parquet",
        parquet(text=["x"], label=["a"])[:-10],
        ("a.parquet: is not a whole parquet file (", "write or copy it again"),
    ),
    "parquet that is packed": (
        "a.parquet.gz",
        b"",
        ("a.parquet.gz: a .parquet file", "(unpack it)"),
    ),
    "a missing value of parquet": (
        "a.parquet",
        parquet(text=["x", None, "y"], label=["a", "b", "b"]),
        ('a.parquet:2: column "text": the text is empty', DROP),
    ),
    "bytes in parquet": (
        "a.parquet",
        parquet(text=["x", "y", "z"], label=pyarrow.array([b"a", b"b", None])),
        ('a.parquet:1: column "label": is bytes; give text',),
    ),
    "a number in a workbook": (
        "a.xlsx",
        book([*TABLE, [2026, "hello"]]),
        ('a.xlsx:Sheet:6: column "text": "2026" is not text', DROP),
    ),
    "a note beside a table": (
        "a.xlsx",
        book([*TABLE, ["hm", "hello", None, "is this right?"]]),
        ("a.xlsx:Sheet:6: has a value in column D, which has no name (name it in the header", DROP),
    ),
    "two sheets": (
        "a.xlsx",
        book(TABLE, sheets=2),
        ("a.xlsx: has 2 sheets with rows: Sheet, More1 (name one, data.sheet: Sheet)",),
    ),
    "an empty workbook": (
        "a.xlsx",
        book([]),
        ("a.xlsx:Sheet: the sheet is empty (it needs a header",),
    ),
    "an old workbook": (
        "a.xlsx",
        b"\xd0\xcf\x11\xe0" + bytes(99),
        ("a.xlsx: is a workbook of Excel before 2007, or has a password (save it in Excel as",),
    ),
    "a csv that is called a workbook": (
        "a.xlsx",
        GOOD,
        ("a.xlsx: is not a whole .xlsx file (Cannot detect", "save it in Excel as .xlsx"),
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_ends_the_check_with_its_place_and_a_remedy(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, parts = BROKEN[kind]
    monkeypatch.chdir(tmp_path)
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(raw)
    (tmp_path / "c.yaml").write_text(CONFIG.format(name=name))
    assert main(["check", "c.yaml"]) == 2
    out, err = capsys.readouterr()
    said = " ".join(err.split())
    assert [part for part in parts if part not in said] == []
    assert out == ""
    assert "Traceback" not in err


PIECES = [b'"', b",", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"text", b"label", b"x" * 99, b" "]
PIECES += [b'{"text": "a", "label": 1}\n', b"text,label\n", b"{", b"}", b"[", b"]", b":", b"\\u"]
PIECES += [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x80", b"\xe9", b"NaN", b"-1e999", b"null"]
PIECES += [
    "你好".encode(),
    gb("你好"),
    "卡".encode()[:2],
    "\ud800".encode("utf-8", "surrogatepass"),
]
FILES = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=40)
ENCODINGS = ["auto", "auto", "utf-8", "gb18030", "latin-1", "utf-16", "utf-16-le", "utf-7"]


def outcomes(rows: Iterator[Row | DataError]) -> list[Row | DataError]:
    found: list[Row | DataError] = []
    try:
        found.extend(rows)
    except DataError as error:
        found.append(error)
    return found


def check_bytes(folder: Path, pieces: list[bytes], suffix: str, encoding: str) -> None:
    """Reading gives rows of text and values and errors with the file's name, and both twice."""
    path = folder / f"a{suffix}"
    path.write_bytes(b"".join(pieces))
    source = Files(FilesConfig(encoding=encoding))
    found = outcomes(source.rows(str(path)))
    assert all(isinstance(each, Row | DataError) for each in found)
    assert found or suffix != ".jsonl"  # a csv may be a header alone
    for each in found:
        assert each.address.startswith(str(path)) or suffix == ".jsonl"
        if isinstance(each, Row):
            repr(each).encode()  # no half of a pair
    assert list(map(str, found)) == list(map(str, outcomes(source.rows(str(path)))))


def fuzzed(examples: int) -> Callable[..., Any]:
    def decorate(test: Callable[..., None]) -> Any:
        quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
        given_bytes = given(
            FILES, st.sampled_from([".csv", ".tsv", ".jsonl"]), st.sampled_from(ENCODINGS)
        )
        return settings(max_examples=examples, deadline=None, suppress_health_check=quiet)(
            given_bytes(test)
        )

    return decorate


@fuzzed(100)
def test_any_bytes_give_rows_or_errors_and_no_traceback(
    tmp_path: Path, pieces: list[bytes], suffix: str, encoding: str
) -> None:
    check_bytes(tmp_path, pieces, suffix, encoding)


@pytest.mark.slow
@fuzzed(500)
def test_many_more_bytes_give_rows_or_errors(
    tmp_path: Path, pieces: list[bytes], suffix: str, encoding: str
) -> None:
    check_bytes(tmp_path, pieces, suffix, encoding)
