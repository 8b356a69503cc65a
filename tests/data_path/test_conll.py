"""Files with a word a line: sentences as rows, and lines that are broken."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]
import pytest

from nlpkit.contracts import Row
from nlpkit.errors import DataError
from nlpkit_data import conll
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files

if TYPE_CHECKING:
    from pathlib import Path

EU = {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}
ROME = {"tokens": ["Rome"], "tags": ["B-LOC"]}
TABS = "EU\tB-ORG\nrejects\tO\n\t\nRome\tB-LOC\n"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(location: Path | str, **options: Any) -> list[tuple[str, Any]]:
    rows = Files(FilesConfig(**options)).rows(str(location))
    return [
        (each.address, each.values) if isinstance(each, Row) else ("", str(each)) for each in rows
    ]


def of(tmp_path: Path, text: str) -> list[tuple[str, Any]]:
    (tmp_path / "a.conll").write_bytes(text.encode())
    return read("a.conll")


@pytest.mark.parametrize(
    "text",
    [
        TABS,
        TABS.removesuffix("\n"),
        TABS.replace("\n", "\r\n"),
        TABS.replace("\t\n", "\u3000 \n").replace("\t", " \t  "),
        TABS.replace("\t\n", "\n").replace("\t", "\t_\tX Y\t"),
        "-DOCSTART- -X- O\n" + TABS.replace("\t\n", "-DOCSTART-\n").replace("\t", " NNP B-NP "),
    ],
)
def test_a_row_is_what_stands_between_blank_lines(tmp_path: Path, text: str) -> None:
    first = 1 + text.startswith("-DOC")
    expected = [(f"a.conll:{first}", EU), (f"a.conll:{first + 3}", ROME)]
    assert of(tmp_path, text) == expected
    assert of(tmp_path, text + "\n \n-DOCSTART- -X- O\n\n") == expected


def test_where_tabs_separate_words_may_hold_blanks(tmp_path: Path) -> None:
    ((_, values),) = of(tmp_path, "New York\tB-LOC \n 1\u00a0000 \tO\n")
    assert values == {"tokens": ["New York", "1\u00a0000"], "tags": ["B-LOC", "O"]}
    ((_, values),) = of(tmp_path, "1\u00a0000 O\n\u2028 O\n")
    assert values["tokens"] == ["1\u00a0000", "\u2028"]


def test_a_file_of_one_column_has_words_without_tags(tmp_path: Path) -> None:
    assert of(tmp_path, "EU\nrejects\n\nRome\n") == [
        ("a.conll:1", {"tokens": EU["tokens"]}),
        ("a.conll:4", {"tokens": ["Rome"]}),
    ]


BEGIN = "but the lines at the file's beginning have"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("# id 7", f"has 1 column, {BEGIN} 2 (a line is a word, …, its tag; remove comments)"),
        (
            "New\tYork\tB",
            f"has 3 columns, {BEGIN} 2 (a line is a word, …, its tag; remove comments, and "
            "separate by tabs where words hold blanks)",
        ),
        ("EU\t ", "the tag is empty"),
        ("\tO", "the word is empty"),
        ("E\0U\tO", "holds a NUL character"),
    ],
)
@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_sentence_with_a_broken_line_is_that_lines_error(
    tmp_path: Path, line: str, message: str, place: int
) -> None:
    words = ["EU\tB-ORG", "rejects\tO"]
    words.insert(place - 1, line)
    text = "\n".join([*words, "", "Rome\tB-LOC", ""])
    assert of(tmp_path, text) == [("", f"a.conll:{place}: {message}"), ("a.conll:5", ROME)]


def test_a_line_with_tags_in_a_file_of_words_is_an_error(tmp_path: Path) -> None:
    (_, found), (_, values) = of(tmp_path, "EU\nrejects O\n\nRome\n")
    assert (
        found == f"a.conll:2: has 2 columns, {BEGIN} 1 (a line is a word; remove comments, and "
        "separate by tabs where words hold blanks)"
    )
    assert values == {"tokens": ["Rome"]}


@pytest.mark.parametrize("text", ["", "\n\t\n", "-DOCSTART- O\n\n"])
def test_a_file_without_words_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"^a.conll: the file has no words \(a line is a word and"):
        of(tmp_path, text)


def test_a_sentence_without_end_is_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conll, "_LONGEST", 1000)
    endless = "a\tO\n" * 250
    assert [len(values["tokens"]) for _, values in of(tmp_path, endless)] == [250]
    problem = (
        "a.conll:251: the sentence has more than 1,000 characters (a blank line ends a sentence)"
    )
    assert of(tmp_path, endless + "b\tO\n" * 9 + "\n" + TABS)[:2] == [
        ("", problem),
        ("a.conll:261", EU),
    ]
    assert of(tmp_path, TABS + "\n" + "a " * 1000)[2] == ("", problem.replace("251", "6"))


@pytest.mark.parametrize("name", ["a.bio", "a.CONLL.gz", "shards"])
def test_they_come_packed_in_shards_and_from_urls(tmp_path: Path, name: str) -> None:
    content = gzip.compress(TABS.encode()) if name.endswith("gz") else TABS.encode()
    path = tmp_path / name
    if name == "shards":
        path.mkdir()
        path = path / "part-0.conll"
        (path.parent / "part-1.conll").write_bytes(TABS.encode())
    path.write_bytes(content)
    assert [values for _, values in read(tmp_path / name)] == [EU, ROME] * (1 + (name == "shards"))
    with fsspec.open(f"memory://{path}", "wb") as file:
        file.write(content)
    assert read(f"memory://{path}")[1] == (f"memory://{path}:4", ROME)


def test_encodings_are_as_with_other_text(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_bytes("北京 B-LOC\n".encode("gb18030"))
    assert read("a.conll", encoding="gb18030") == [
        ("a.conll:1", {"tokens": ["北京"], "tags": ["B-LOC"]})
    ]
    with pytest.raises(DataError, match="a.conll:1: byte 0xb1 at offset 0 .* as GB18030 it reads"):
        read("a.conll")
    (tmp_path / "a.conll").write_bytes(b"\xef\xbb\xbf" + TABS.encode())
    assert read("a.conll")[0] == ("a.conll:1", EU)


@pytest.mark.parametrize(("split", "count"), [("train", 3394), ("dev", 1009), ("test", 1287)])
def test_real_sentences_are_those_between_blank_lines(
    real_data: Path, split: str, count: int
) -> None:
    path = real_data / "wnut17" / f"{split}.conll"
    rows = read(path)
    lines = path.read_text("utf-8").split("\n")
    filled = [line for line in lines if line.strip()]
    assert len(rows) == count
    assert [[word, tag] for _, row in rows for word, tag in zip(*row.values(), strict=True)] == [
        line.split("\t") for line in filled
    ]
    for address, row in rows:
        start = int(address.rpartition(":")[2]) - 1
        assert not lines[start - 1].strip() or not start
        assert not lines[start + len(row["tokens"])].strip()
