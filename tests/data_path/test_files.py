from __future__ import annotations

import csv
import gzip
import hashlib
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from nlpkit.contracts import Row
from nlpkit.errors import DataError
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files
from nlpkit_data.sample import Sample

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = Files(FilesConfig())


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(path: Path | str) -> list[tuple[str, dict[str, Any]]]:
    return [(row.address, dict(row.values)) for row in SOURCE.rows(str(path)) if good(row)]


def good(row: Row | DataError) -> bool:
    return isinstance(row, Row)


def errors(path: Path) -> list[str]:
    return [str(row) for row in SOURCE.rows(str(path)) if isinstance(row, DataError)]


def test_rows_have_the_line_on_which_they_start(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"two\nlines",a\r\n\nplain,b\n"say ""hi"", then",c\n')
    assert read(path) == [
        ("a.csv:2", {"text": "two\nlines", "label": "a"}),
        ("a.csv:5", {"text": "plain", "label": "b"}),
        ("a.csv:6", {"text": 'say "hi", then', "label": "c"}),
    ]


def test_addresses_outside_the_working_directory_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    path = tmp_path / "a.csv"
    path.write_text("text\nx\n")
    monkeypatch.chdir(tmp_path / "inside")
    assert read(path)[0][0] == f"{path}:2"


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV.GZ", "a.tsv", "a.jsonl.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_kinds_of_files_with_and_without_a_bom(tmp_path: Path, name: str, mark: bytes) -> None:
    text = "text,label\nça va,x\n"
    if "tsv" in name:
        text = text.replace(",", "\t")
    if "jsonl" in name:
        text = '{"text": "ça va", "label": "x"}\n'
    content = mark + text.encode()
    (tmp_path / name).write_bytes(
        gzip.compress(content) if name.lower().endswith(".gz") else content
    )
    ((_, values),) = read(tmp_path / name)
    assert values == {"text": "ça va", "label": "x"}


def test_jsonl_keeps_types_and_takes_the_address_of_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"n": 1.5, "l": ["a"], "t": true, "x": null}\n\n{"n": 2, "__address__": "row 7"}\n'
    )
    assert read(path) == [
        ("a.jsonl:1", {"n": 1.5, "l": ["a"], "t": True, "x": None}),
        ("row 7", {"n": 2}),
    ]


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_urls_are_read_through_fsspec(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://{tmp_path}/rows.csv.gz"
    content = gzip.compress(b"text,label\nhello,x\n")
    with fsspec.open(url, "wb") as file:
        file.write(content)
    assert read(url) == [(f"{url}:2", {"text": "hello", "label": "x"})]
    assert SOURCE.fingerprint(url) == hashlib.sha256(content).hexdigest()


def test_reading_goes_on_after_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,label\na,b,c\nd\n"x"y,z\ngood,row\nnul\0l,x\n"open,b\nlast,row\n')
    assert [address for address, _ in read(path)] == ["a.csv:5"]
    assert errors(path) == [
        "a.csv:2: has 3 fields, but the header has 2 columns "
        "(quote values that hold a delimiter, a quote or a line break)",
        "a.csv:3: has 1 fields, but the header has 2 columns "
        "(quote values that hold a delimiter, a quote or a line break)",
        "a.csv:4: is not valid (',' expected after '\"')",
        "a.csv:6: holds a NUL character",
        "a.csv:7: a quote opens in this row and never closes",
    ]


def test_broken_json_lines_have_addresses(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "ok"}\n{"text": \n[1]\n{"text": "\\ud800"}\n{"text": "\\ud83d\\ude00"}\n'
    )
    found = errors(path)
    assert found[0].startswith("a.jsonl:2: is not JSON (Expecting value")
    assert found[1:] == [
        "a.jsonl:3: is JSON, but not an object with the columns as keys",
        "a.jsonl:4: holds half a surrogate pair, which is no character",
    ]
    assert [values["text"] for _, values in read(path)] == ["ok", "😀"]


def test_fields_may_be_huge(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,label\n{'x' * 300_000},a\n")
    limit = csv.field_size_limit(131_072)
    try:
        assert len(read(path)[0][1]["text"]) == 300_000
    finally:
        csv.field_size_limit(limit)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv: the file is empty"),
        ("a.jsonl", b"\n\n", "a.jsonl: the file is empty"),
        ("a.csv", b"text,a,text\n", 'a.csv:1: column "text": stands twice in the header'),
        (
            "a.csv",
            b"text\nfine\ncaf\xe9\n",
            "a.csv:3: byte 0xe9 at offset 13 of the file is not UTF-8 (save the file as UTF-8)",
        ),
        (
            "a.txt",
            b"text",
            'a.txt: has the suffix ".txt"; files of .csv, .tsv, .jsonl can be read, also with .gz',
        ),
        ("a.csv.gz", b"no gzip", "a.csv.gz: is not a whole gzip file"),
        ("a.csv.gz", gzip.compress(b"text\n" * 99)[:-9], "a.csv.gz: is not a whole gzip file"),
    ],
)
def test_files_that_cannot_be_read_say_why(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(SOURCE.rows(str(path)))
    assert str(caught.value).startswith(message)


def test_a_missing_file_names_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "train.csv").touch()
    with pytest.raises(DataError, match=r'trian.csv: there is no such file; .* "train.csv"\?'):
        SOURCE.fingerprint(str(tmp_path / "trian.csv"))
    with pytest.raises(DataError, match="nowhere.csv: there is no such file$"):
        list(SOURCE.rows(str(tmp_path / "no" / "nowhere.csv")))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        list(SOURCE.rows(str(tmp_path / "folder.csv")))
    with pytest.raises(DataError, match="Protocol not known"):
        list(SOURCE.rows("gopher2://host/a.csv"))


def test_the_sample_is_bundled_and_reads_files_too(tmp_path: Path) -> None:
    sample = Sample(None)
    location = sample.default("train")
    assert location is not None
    assert sample.default("validation") is None
    first = next(iter(sample.rows(location)))
    assert first.address == "sample://train.csv:2"
    assert sample.fingerprint(location) != sample.fingerprint(str(sample.default("test")))
    path = tmp_path / "mine.csv"
    path.write_text("text,label\nhello,refund\n")
    assert [row.address for row in sample.rows(str(path))] == ["mine.csv:2"]


def test_real_rows_with_line_breaks_are_whole(real_data: Path) -> None:
    rows = read(real_data / "banking77" / "train.csv")
    assert len(rows) == 10_003
    assert sum("\n" in values["text"] for _, values in rows) > 0
    lines = (real_data / "banking77" / "train.csv").read_text(encoding="utf-8").split("\n")
    for address, values in rows[::500]:
        line = int(address.rpartition(":")[2])
        assert values["text"].split("\n")[0][:20] in lines[line - 1]
