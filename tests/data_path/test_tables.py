"""Parquet files and workbooks: rows of the source `files` that another package reads."""

from __future__ import annotations

import datetime
import sys
import zipfile
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from nlpkit.errors import DataError
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAY, HOUR = datetime.date(2026, 3, 1), datetime.time(8, 30)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(name: str, **options: Any) -> list[tuple[str, dict[str, Any]] | str]:
    rows = Files(FilesConfig(**options)).rows(name)
    return [
        str(each) if isinstance(each, DataError) else (each.address, each.values) for each in rows
    ]


def error(name: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(name, **options)
    return str(caught.value)


def write_parquet(name: str, columns: dict[str, Any], **options: Any) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), name, **options)


def write_xlsx(name: str, sheets: dict[str, Sequence[Sequence[Any]]]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(name)
    return book


def texts(values: list[bytes]) -> pyarrow.Array:
    """A column of strings that nobody checks for UTF-8."""
    buffers = pyarrow.array(values).buffers()
    return pyarrow.Array.from_buffers(pyarrow.string(), len(values), buffers)


class TestParquet:
    def test_rows_count_from_1_over_row_groups_and_values_are_those_of_rows_in_memory(self) -> None:
        columns = {
            "文本": ["你好", None, "😀"],
            "number": [1.0, float("nan"), 2.5],
            "day": [DAY, None, DAY],
            "labels": [["a"], [], None],
        }
        write_parquet("a.parquet", columns, row_group_size=2)
        assert read("a.parquet") == [
            ("a.parquet:1", {"文本": "你好", "number": 1.0, "day": "2026-03-01", "labels": ["a"]}),
            ("a.parquet:2", {"文本": None, "number": None, "day": None, "labels": []}),
            ("a.parquet:3", {"文本": "😀", "number": 2.5, "day": "2026-03-01", "labels": None}),
        ]

    def test_only_a_piece_is_in_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write_parquet("a.parquet", {"text": ["x"] * 5000})
        pieces: list[int] = []

        class Counted(pyarrow.parquet.ParquetFile):  # type: ignore[misc]
            def iter_batches(self, size: int) -> Any:
                for piece in super().iter_batches(size):
                    pieces.append(piece.num_rows)
                    yield piece

        monkeypatch.setattr("nlpkit_data.parquet.ParquetFile", Counted)
        rows = Files(FilesConfig()).rows("a.parquet")
        next(rows)
        assert pieces == [1024]
        assert len(list(rows)) == 4999

    def test_a_url_is_read(self) -> None:
        import fsspec

        write_parquet("a.parquet", {"text": ["x"]})
        with open("a.parquet", "rb") as here, fsspec.open("memory://b.parquet", "wb") as there:
            there.write(here.read())
        assert read("memory://b.parquet") == [("memory://b.parquet:1", {"text": "x"})]

    def test_a_row_that_is_broken_is_named_and_the_rest_is_read(self) -> None:
        write_parquet("a.parquet", {"text": texts([b"ok", b"caf\xe9", b"fine"])})
        assert read("a.parquet") == [
            ("a.parquet:1", {"text": "ok"}),
            ("a.parquet:2", {"text": ANY}),
            ("a.parquet:3", {"text": "fine"}),
        ]
        (_, (_, values), _) = read("a.parquet")
        assert str(values["text"]) == 'a.parquet:2: column "text": holds text that is not UTF-8'
        write_parquet("b.parquet", {"text": [b"x", None]})
        assert read("b.parquet") == [
            ("b.parquet:1", {"text": ANY}),
            ("b.parquet:2", {"text": None}),
        ]
        ((_, values), _) = read("b.parquet")
        assert str(values["text"]) == (
            'b.parquet:1: column "text": is bytes; give text, a number, a date, or a list of them'
        )

    def test_a_value_that_python_lacks_is_the_fault_of_its_column_alone(self) -> None:
        far = pyarrow.array([2**40, 0], pyarrow.timestamp("s"))
        write_parquet("a.parquet", {"text": ["x", "y"], "when": far})
        (_, first), (_, second) = read("a.parquet")
        assert (first["text"], second["text"]) == ("x", "y")
        assert str(first["when"]).startswith('a.parquet:1: column "when": cannot be read (')

    def test_damage_is_named(self, tmp_path: Path) -> None:
        write_parquet("a.parquet", {"text": [str(number) for number in range(5000)]})
        whole = (tmp_path / "a.parquet").read_bytes()
        (tmp_path / "a.parquet").write_bytes(whole[:-20])
        assert error("a.parquet").startswith("a.parquet: is not a whole parquet file (")
        damaged = whole[:40] + b"\xff" * 40 + whole[80:]
        (tmp_path / "a.parquet").write_bytes(damaged)
        assert error("a.parquet").startswith("a.parquet: is not a whole parquet file (")

    def test_two_columns_of_one_name_are_an_error(self) -> None:
        table = pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 2, names=["text", "text"])
        pyarrow.parquet.write_table(table, "a.parquet")
        assert error("a.parquet").startswith('a.parquet: column "text": stands twice')


class TestWorkbook:
    def test_rows_have_excels_numbers_and_values_are_those_of_rows_in_memory(self) -> None:
        stamp = datetime.datetime(2026, 3, 1, 8, 30)
        rows = [
            [],
            [None, "文本", 7, "when"],
            [None, "你好", 1, DAY],
            [],
            [None, "two\nlines", True, stamp],
            [None, 3.5, None, HOUR],
        ]
        write_xlsx("a.xlsx", {"数据 1": rows})
        assert read("a.xlsx") == [
            ("a.xlsx:数据 1:3", {"文本": "你好", "7": 1, "when": "2026-03-01 00:00:00"}),
            ("a.xlsx:数据 1:5", {"文本": "two\nlines", "7": True, "when": str(stamp)}),
            ("a.xlsx:数据 1:6", {"文本": 3.5, "7": None, "when": "08:30:00"}),
        ]

    def test_errors_of_excel_and_formulas_that_were_never_computed_are_missing(self) -> None:
        book = write_xlsx("a.xlsx", {"S": [["text", "label", "n"], ["x", "#N/A", "=1+1"]]})
        book["S"]["B2"].data_type = "e"
        book.save("a.xlsx")
        assert read("a.xlsx") == [("a.xlsx:S:2", {"text": "x", "label": None, "n": None})]

    def test_a_formula_that_gives_empty_text_gives_no_row(self, tmp_path: Path) -> None:
        write_xlsx("a.xlsx", {"S": [["text", "label"], ["x", "y"], ["?", None]]})
        with zipfile.ZipFile("a.xlsx") as old, zipfile.ZipFile("b.xlsx", "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name).replace(b"<t>?</t>", b"<t></t>"))
        assert read("b.xlsx") == [("b.xlsx:S:2", {"text": "x", "label": "y"})]

    def test_a_value_without_a_columns_name_is_a_bad_row(self) -> None:
        write_xlsx("a.xlsx", {"S": [["text", None, "label"], ["x", None, "y", "?"], ["z"]]})
        assert read("a.xlsx") == [
            "a.xlsx:S:2: has a value in column D, which has no name "
            "(name it in the header, or clear it)",
            ("a.xlsx:S:3", {"text": "z", "label": None}),
        ]

    def test_the_only_sheet_that_shows_rows_is_read_and_others_by_their_name(self) -> None:
        sheets = {"Empty": [], "Rows": [["text"], ["x"]], "Hidden": [["text"], ["y"]]}
        book = write_xlsx("a.xlsx", sheets)
        book["Hidden"].sheet_state = "hidden"
        book.save("a.xlsx")
        assert read("a.xlsx") == [("a.xlsx:Rows:2", {"text": "x"})]
        assert read("a.xlsx", sheet="Hidden") == [("a.xlsx:Hidden:2", {"text": "y"})]
        assert error("a.xlsx", sheet="rows") == (
            'a.xlsx: has no sheet "rows"; did you mean "Rows"? '
            "(its sheets are: Empty, Rows, Hidden)"
        )
        assert error("a.xlsx", sheet="Empty") == (
            "a.xlsx:Empty: the sheet is empty (it needs a header and rows)"
        )
        book["Hidden"].sheet_state = "visible"
        book.save("a.xlsx")
        assert error("a.xlsx") == (
            "a.xlsx: has 2 sheets with rows: Rows, Hidden (name one, data.sheet: Rows)"
        )

    def test_dimensions_that_are_wrong_cut_nothing_off(self, tmp_path: Path) -> None:
        write_xlsx("a.xlsx", {"S": [["text", "label"], ["x", "y"], ["z", "w"]]})
        with zipfile.ZipFile("a.xlsx") as old, zipfile.ZipFile("b.xlsx", "w") as new:
            for name in old.namelist():
                content = old.read(name).replace(b'ref="A1:B3"', b'ref="A1"')
                new.writestr(name, content)
        assert [each[1] for each in read("b.xlsx")] == [
            {"text": "x", "label": "y"},
            {"text": "z", "label": "w"},
        ]

    def test_a_column_in_front_without_a_name_is_left_out(self) -> None:
        write_xlsx("a.xlsx", {"S": [[None, "text", "label"], [0, "x", "y"], [1, "z", "w"]]})
        assert read("a.xlsx") == [  # as pandas writes a DataFrame with its index
            ("a.xlsx:S:2", {"text": "x", "label": "y"}),
            ("a.xlsx:S:3", {"text": "z", "label": "w"}),
        ]

    def test_numbers_are_whole_where_excel_shows_them_so_and_spans_of_time_are_text(self) -> None:
        hours = datetime.timedelta(hours=30)
        write_xlsx(
            "a.xlsx", {"S": [["n", "big", "span"], [3.0, 1e17, hours], [-0.5, 10**15, None]]}
        )
        assert [values for _, values in read("a.xlsx")] == [
            {"n": 3, "big": 10**17, "span": "1 day, 6:00:00"},
            {"n": -0.5, "big": 10**15, "span": None},
        ]

    @pytest.mark.parametrize("content", [b"", b"text,label\n", b"PK\x03\x04" + bytes(40)])
    def test_what_is_no_workbook_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.xlsx").write_bytes(content)
        assert error("a.xlsx").startswith("a.xlsx: is not a whole .xlsx file (")

    def test_a_damaged_sheet_is_named(self, tmp_path: Path) -> None:
        write_xlsx("a.xlsx", {"S": [["text"], *([str(number)] for number in range(99))]})
        with zipfile.ZipFile("a.xlsx") as old, zipfile.ZipFile("b.xlsx", "w") as new:
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, content[:500] if "sheet1" in name else content)
        assert error("b.xlsx").startswith("b.xlsx: is not a whole .xlsx file (syntax error")

    def test_a_workbook_of_old_or_with_a_password_is_told_apart(self, tmp_path: Path) -> None:
        (tmp_path / "a.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500))
        assert error("a.xlsx") == (
            "a.xlsx: is a workbook of Excel before 2007, or has a password "
            "(save it in Excel as .xlsx, without a password)"
        )


@pytest.mark.parametrize(
    ("suffix", "package", "extra"),
    [("parquet", "pyarrow", "parquet"), ("xlsx", "python_calamine", "excel")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, package: str, extra: str
) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(b"x")
    for name in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"nlpkit_data.{extra}", raising=False)
    assert error(f"a.{suffix}").startswith(f"a.{suffix}: needs {package}, which is not installed")
    assert error(f"a.{suffix}").endswith(f"(pip install 'nlpkit-sdk[{extra}]')")


@pytest.mark.parametrize("suffix", ["parquet", "xlsx"])
def test_what_cannot_be_read_in_one_go_is_not_packed(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}.gz").write_bytes(b"")
    message = f"a.{suffix}.gz: a .{suffix} file cannot be read through gzip (unpack it)"
    assert error(f"a.{suffix}.gz") == message
