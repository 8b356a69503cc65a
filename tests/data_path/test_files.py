from __future__ import annotations

import csv
import gzip
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


@pytest.mark.parametrize(
    "name", ["a.csv", "a.csv.gz", "A.CSV.GZ", "a.tsv", "a.jsonl.gz", "a.ndjson", "a.ndjson.gz"]
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_kinds_of_files_with_and_without_a_bom(tmp_path: Path, name: str, mark: bytes) -> None:
    text = "text,label\nça va,x\n"
    if "tsv" in name:
        text = text.replace(",", "\t")
    if "json" in name:
        text = '{"text": "ça va", "label": "x"}\n'
    content = mark + text.encode()
    (tmp_path / name).write_bytes(
        gzip.compress(content) if name.lower().endswith(".gz") else content
    )
    ((_, values),) = read(tmp_path / name)
    assert values == {"text": "ça va", "label": "x"}


def test_jsonl_keeps_types_and_takes_the_address_of_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1.5, "l": ["a"], "t": true, "x": null}\n\n["row 7", {"n": 2}]\n')
    assert read(path) == [
        ("a.jsonl:1", {"n": 1.5, "l": ["a"], "t": True, "x": None}),
        ("row 7", {"n": 2}),
    ]


def test_no_column_of_a_jsonl_object_is_its_address(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "__address__": "5 High Street"}\n')
    assert read(path) == [("a.jsonl:1", {"text": "x", "__address__": "5 High Street"})]


def test_numbers_that_json_does_not_have_are_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"label": NaN, "n": [Infinity, -Infinity]}\n')
    assert read(path) == [("a.jsonl:1", {"label": None, "n": [None, None]})]


def test_a_key_that_stands_twice_in_a_jsonl_row_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"label": "a", "text": "x", "label": "b"}\n{"label": "a"}\n')
    assert errors(path) == ['a.jsonl:1: column "label": stands twice in the row']
    assert read(path) == [("a.jsonl:2", {"label": "a"})]


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_urls_are_read_through_fsspec(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://{tmp_path}/rows.csv.gz"
    content = gzip.compress(b"text,label\nhello,x\n")
    with fsspec.open(url, "wb") as file:
        file.write(content)
    assert read(url) == [(f"{url}:2", {"text": "hello", "label": "x"})]
    (tmp_path / "rows.csv.gz").write_bytes(content)
    assert SOURCE.fingerprint(url) == SOURCE.fingerprint(f"{tmp_path}/rows.csv.gz")


def test_a_fingerprint_is_of_the_content_and_of_the_kind_that_says_how_it_is_read(
    tmp_path: Path,
) -> None:
    for name in ("a.csv", "b.CSV", "c.tsv", "d.csv"):
        (tmp_path / name).write_bytes(b"text,label\nx,y\n" + b"z,y\n" * (name == "d.csv"))
    first, renamed, *others = map(SOURCE.fingerprint, ("a.csv", "b.CSV", "c.tsv", "d.csv"))
    assert first == renamed
    assert first not in others


def test_reading_goes_on_after_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,label\na,b,c\nd\n"x"y,z\ngood,row\nnul\0l,x\n"two\nlines"y,b\n')
    assert [address for address, _ in read(path)] == ["a.csv:5"]
    assert errors(path) == [
        "a.csv:2: has 3 fields, but the header has 2 columns "
        "(quote values that hold a delimiter, a quote or a line break)",
        "a.csv:3: has 1 field, but the header has 2 columns "
        "(quote values that hold a delimiter, a quote or a line break)",
        "a.csv:4: is not valid (',' expected after '\"') "
        "(quote whole values, and double the quotes in them)",
        "a.csv:6: holds a NUL character",
        "a.csv:7: is not valid (',' expected after '\"') "
        "(quote whole values, and double the quotes in them; lines 7 to 8 are lost; "
        "data.quotes: none, if quotes mean nothing here)",
    ]


def test_a_quote_that_never_closes_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\nfine,x\n"open,x\n' + "lost,x\n" * 997)
    with pytest.raises(DataError) as caught:
        list(SOURCE.rows(str(path)))
    assert str(caught.value) == (
        "a.csv:3: a quote opens in this row and never closes: it swallows lines 3 to 1000 "
        "(close it, or double it; data.quotes: none, if quotes mean nothing here)"
    )


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_lines_end_as_on_any_system(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.csv").write_text(
        end.join(["text,label", '"two', 'lines",a', "b,c", ""]), newline=""
    )
    assert read("a.csv") == [
        ("a.csv:2", {"text": f"two{end}lines", "label": "a"}),
        ("a.csv:4", {"text": "b", "label": "c"}),
    ]
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a"}}{end}{{"text": "b"}}{end}', newline="")
    assert read("a.jsonl") == [("a.jsonl:1", {"text": "a"}), ("a.jsonl:2", {"text": "b"})]


def test_a_lone_carriage_return_in_a_row_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx\ry,a\nfine,a\n", newline="")
    assert errors(path) == ["a.csv:2: holds a lone carriage return (quote the value)"]
    assert [address for address, _ in read(path)] == ["a.csv:3"]


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
    path.write_text(f"text,label\nfine,a\n{'x' * 300_000},a\n")
    limit = csv.field_size_limit(131_072)
    try:
        rows = SOURCE.rows(str(path))
        next(rows)
        assert csv.field_size_limit() == 131_072  # others read csv as they did before
        huge = next(rows)
        assert good(huge)
        assert len(huge.values["text"]) == 300_000
        assert csv.field_size_limit() == 131_072
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
            "a.csv:3: byte 0xe9 at offset 13 of the file is not UTF-8, but as CP1252 it reads ",
        ),
        (
            "a.doc",
            b"text",
            'a.doc: has the suffix ".doc", which names no kind of file that can be read (they are '
            ".csv, .tsv, .jsonl, .ndjson, .conll, .bio, .txt, .parquet, .xlsx, the first seven "
            "also with .gz)",
        ),
        ("a.csv.gz", b"no gzip", "a.csv.gz: is not a whole gzip file"),
        (
            "a.csv.gz",
            gzip.compress(b"text\n" * 99, mtime=0)[:-9],
            "a.csv.gz: is not a whole gzip file",
        ),
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
    with pytest.raises(DataError, match="is an empty folder"):
        list(SOURCE.rows(str(tmp_path / "folder.csv")))
    with pytest.raises(DataError, match="Protocol not known"):
        list(SOURCE.rows("gopher2://host/a.csv"))


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.csv").write_text("text\nx\n")
    assert read("~/a.csv") == [("a.csv:2", {"text": "x"})]
    assert SOURCE.fingerprint("~/a.csv") == SOURCE.fingerprint("a.csv")


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


def test_a_folder_and_a_missing_file_are_told_from_a_wrong_suffix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is an empty folder \(name a file in it"):
        read(tmp_path)
    with pytest.raises(DataError, match="there is no such file"):
        read(tmp_path / "nothing")
    (tmp_path / "rows.xyz").touch()
    with pytest.raises(DataError, match='has the suffix ".xyz"'):
        read(tmp_path / "rows.xyz")


def test_a_folder_of_shards_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    shards = tmp_path / "train"
    shards.mkdir()
    names = ["part-1.csv.gz", "part-0.csv.gz", "part-10.csv.gz"]
    for name in names:
        (shards / name).write_bytes(gzip.compress(f"text\n{name}\n".encode(), mtime=0))
    for name in ("_SUCCESS", ".part-0.csv.gz.crc"):
        (shards / name).touch()
    assert [values["text"] for _, values in read(shards)] == sorted(names)
    assert read(shards)[0][0] == "train/part-0.csv.gz:2"
    first = SOURCE.fingerprint(str(shards))
    shards.rename(tmp_path / "moved")
    assert SOURCE.fingerprint("moved") == first
    (tmp_path / "moved" / "part-0.csv.gz").unlink()
    assert SOURCE.fingerprint("moved") != first


def test_a_shard_that_the_names_count_and_that_is_missing_is_an_error(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"p-0000{number}-of-00003.csv").write_text(f"text\n{number}\n")
    with pytest.raises(DataError, match="has 2 shards, and their names say 3 .add what is missing"):
        read(tmp_path)
    (tmp_path / "p-00000-of-00003.csv").write_text("text\n0\n")
    assert [values["text"] for _, values in read(tmp_path)] == ["0", "1", "2"]


@pytest.mark.parametrize("others", [["test.csv"], ["train.jsonl"], ["README.md"]])
def test_a_folder_of_files_that_are_named_differently_is_no_folder_of_shards(
    tmp_path: Path, others: list[str]
) -> None:
    for name in ("train.csv", *others):
        (tmp_path / name).write_text("text\nx\n")
    with pytest.raises(DataError, match=r"is a folder whose files are not named alike \(name a"):
        read(tmp_path)
