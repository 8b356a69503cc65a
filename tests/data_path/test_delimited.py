"""What separates the values of csv and tsv files, and what their quotes mean."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nlpkit.contracts import Row
from nlpkit.errors import DataError
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files
from nlpkit_tasks.cells import cell

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS = ["damage", "login", "refund"]
SAYS_IT = {";": '";"', "\t": r'"\t"', "|": '"|"', ",": '","'}
NAMES = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(name: str, content: str, **options: Any) -> tuple[list[Any], list[str]]:
    """Values or errors by row, and what the source remarks after it has read twice."""
    Path(name).write_text(content, encoding="utf-8", newline="")
    source = Files(FilesConfig(**options))
    found = [each.values if isinstance(each, Row) else str(each) for each in source.rows(name)]
    assert len(list(source.rows(name))) == len(found)
    return found, list(map(str, source.remarks))


def table(rows: Sequence[Sequence[object]], delimiter: str = ",") -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows(rows)
    return file.getvalue()


class TestDelimiter:
    @pytest.mark.parametrize(("name", "usual"), [("a.csv", ","), ("a.tsv", "\t")])
    @pytest.mark.parametrize("delimiter", NAMES)
    def test_the_header_decides_and_what_is_unusual_is_said_once(
        self, name: str, usual: str, delimiter: str
    ) -> None:
        rows = [["text", "label"], ["a, b; c | d\te", "x"]]
        found, remarks = read(name, table(rows, delimiter))
        assert found == [dict(zip(*rows, strict=True))]
        said = (
            f"{name}: its beginning says that {NAMES[delimiter]} separate the values, and so it "
            f"is read; data.delimiter: {SAYS_IT[delimiter]} says it for good"
        )
        assert remarks == [said] * (delimiter != usual)

    def test_what_stands_most_often_in_the_header_separates(self) -> None:
        assert read("a.csv", "id;amount, net;text\n1;2,5;x\n")[0][0]["amount, net"] == "2,5"
        assert read("a.csv", "a;b,text\n1;2,x\n")[0] == [{"a;b": "1;2", "text": "x"}]

    @pytest.mark.parametrize("count", [1, 100])
    def test_a_header_with_more_of_another_sign_stays_the_usual_where_only_that_fits_the_rows(
        self, count: int
    ) -> None:
        header = ["id", "a, b", "text (a;b;c;d;e)", "label"]
        rows = [["1", "x, y", "well; yes,\nno", "z"], ["2", "x", "no", "z"]] * count
        found, remarks = read("a.csv", table([header, *rows]))
        assert found == [dict(zip(header, row, strict=True)) for row in rows]
        assert remarks == []
        header = ["id", "amount, net", "text"]
        rows = [["1", "2", "yes"], ["2", "2,5", "no, no"]] * count
        assert read("a.csv", "\n".join(map(";".join, [header, *rows])))[0] == [
            dict(zip(header, row, strict=True)) for row in rows
        ]

    def test_a_header_with_more_of_the_usual_sign_has_another_where_only_that_fits_the_rows(
        self,
    ) -> None:
        header, row = ["text", "label", "price, EUR, net, x"], ["a, b", "x", "2"]
        found, (remark,) = read("a.csv", "\n".join(map(";".join, [header, row, row])))
        assert found == [dict(zip(header, row, strict=True))] * 2
        assert "semicolons separate the values" in remark
        assert read("a.csv", "a;b,c,d\n1,2,3\n1,2\n")[0][0] == {"a;b": "1", "c": "2", "d": "3"}

    def test_a_single_column_may_hold_anything_but_delimiters(self) -> None:
        assert read("a.csv", "text\na; b; c\n") == ([{"text": "a; b; c"}], [])
        quote = "quote values that hold a delimiter, a quote or a line break"
        for header, remedy in {
            "text (raw)": quote,
            "text^label": f"{quote}; or the only column is 'text^label': data.delimiter says what "
            "separates",
        }.items():
            message = f"a.csv:2: has 2 fields, but the header has 1 column ({remedy})"
            assert read("a.csv", f"{header}\na, b^x\n")[0] == [message]

    def test_a_delimiter_that_is_named_is_taken_without_a_word(self) -> None:
        assert read("a.csv", "a;b^c\n1;2^3\n", delimiter="^") == ([{"a;b": "1;2", "c": "3"}], [])
        assert read("a.csv", "a\tb\n1\t2\n", delimiter=r"\t") == ([{"a": "1", "b": "2"}], [])

    @pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
    def test_the_line_that_excel_reads_says_it_too(self, end: str) -> None:
        content = f"\ufeffsep=;{end}text;label{end}a, b;x{end}c"
        found, (remark,) = read("a.csv", content)
        assert found == [
            {"text": "a, b", "label": "x"},
            "a.csv:4: has 1 field, but the header has 2 columns "
            "(quote values that hold a delimiter, a quote or a line break)",
        ]
        assert "semicolons separate the values" in remark
        assert read("a.csv", content, delimiter=";") == (found, [])

    @pytest.mark.parametrize("line", ["sep=\t", r"sep=\t", '"sep=\t"', r'"SEP=\t"'])
    def test_that_line_may_be_quoted_and_spell_a_tab(self, line: str) -> None:
        found, remarks = read("a.csv", f"{line}\ntext, too\tlabel\na, b\tx\n")
        assert found == [{"text, too": "a, b", "label": "x"}]
        assert "tabs separate the values" in remarks[0]

    @pytest.mark.parametrize("wrong", ["", ";;", '"', "\n"])
    def test_it_is_one_character(self, wrong: str) -> None:
        with pytest.raises(ValueError, match=r'must be auto or one character, such as ; or "\\t"'):
            FilesConfig(delimiter=wrong)


class TestColumnsWithoutName:
    @pytest.mark.parametrize(
        "content",
        [
            "text,label,,\nx,y,,\nz,w\n",  # Excel leaves out the ends of some rows
            ",,text,label\n,,x,y\n0,,z,w\n",  # and pandas writes its index in front
            ",,,\ntext,,label, \nx,,y,\nz,,w, \n",
        ],
    )
    def test_they_are_left_out(self, content: str) -> None:
        rows = [{"text": "x", "label": "y"}, {"text": "z", "label": "w"}]
        assert read("a.csv", content) == (rows, [])

    def test_a_value_in_one_behind_others_is_a_bad_row(self) -> None:
        (row, error, short), _ = read("a.csv", "text,label,,\nx,y,,\nx, y,z,\nx\n")
        assert row == {"text": "x", "label": "y"}
        assert error == (
            "a.csv:3: has a value in column C, which has no name "
            "(name it in the header, or clear it)"
        )
        assert short.startswith("a.csv:4: has 1 field, but the header has 4 columns")


class TestEmptyCells:
    def test_a_row_of_them_is_a_blank_line_and_those_behind_the_last_column_are_none(self) -> None:
        content = "text,label\nx,y,,\n,\n\nx,,\n,,,\nx,y,,z\n,\n"
        good, half, odd = read("a.csv", content)[0]
        assert good == {"text": "x", "label": "y"}
        assert half == {"text": "x", "label": ""}
        assert odd.startswith("a.csv:7: has 4 fields, but the header has 2 columns")
        assert read("a.csv", "text\nx\n,,\n")[0] == [{"text": "x"}]
        assert read("a.csv", 'text\nx\n""\n')[0] == [{"text": "x"}, {"text": ""}]
        assert read("a.csv", "text,,\nx,,,\n,,\n")[0] == [{"text": "x"}]


class TestQuotes:
    def test_a_blank_before_one_in_the_header_is_named(self) -> None:
        with pytest.raises(DataError, match=r"^a.csv:1: a blank stands before a quote in the head"):
            read("a.csv", '"text", "label"\n"a", "x"\n')

    @pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
    @pytest.mark.parametrize("order", [["label", "text"], ["text", "label"], ["id", "text"]])
    def test_rows_between_two_stray_quotes_are_named(
        self, name: str, delimiter: str, order: list[str]
    ) -> None:
        rows = [
            {"id": str(number), "text": f"where is case {number}", "label": LABELS[number % 3]}
            for number in range(100, 140)
        ]
        rows[5]["text"] = f'"{rows[5]["text"]}'
        rows[9]["text"] += '"'
        rows[20]["text"] = f'"{rows[20]["text"]}'
        rows[21]["text"] += '"'
        lines = [
            delimiter.join(order),
            *(delimiter.join(row[key] for key in order) for row in rows),
        ]
        found, (remark,) = read(name, "\n".join(lines))
        assert len(found) == 35
        assert remark == (
            f"{name}:7: 2 quoted values hold what look like rows: lines 7 to 11, 22 to 23; "
            "close or double the quotes; data.quotes: none, if quotes mean nothing here"
        )
        found, remarks = read(name, "\n".join(lines), quotes="none")
        assert [row["text"] for row in found] == [row["text"] for row in rows]
        assert remarks == []

    @pytest.mark.parametrize(("rows", "first", "last"), [(40, 1, 38), (12, 2, 10), (40, 0, 39)])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("order", [1, -1])
    def test_two_stray_quotes_that_leave_few_rows_are_named(
        self, rows: int, first: int, last: int, end: str, order: int
    ) -> None:
        cells = [[LABELS[number % 3], f"where is {chr(97 + number)}"] for number in range(rows)]
        cells[first][1] = f'"{cells[first][1]}'
        cells[last][1] += '"'
        lines = [",".join(each[::order]) for each in [["label", "text"], *cells]]
        found, (remark,) = read("a.csv", end.join(lines))
        assert len(found) == rows - (last - first)
        assert (
            f"1 quoted value holds what look like rows: lines {first + 2} to {last + 2};" in remark
        )

    def test_a_text_longer_than_its_file_has_rows_is_no_rows(self) -> None:
        text = "Dear all,\nwell, yes\nso, no\nand, perhaps\nor, not\nbye"
        for order in (1, -1):
            rows = [["text", "label"], [text, "a"], [text.replace("e", "i"), "b"]]
            assert read("a.csv", table([each[::order] for each in rows]))[1] == []

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_a_column_may_have_a_name_of_several_lines(self, end: str) -> None:
        content = f'id,"customer{end}text"{end}1,"a, b"{end}'
        (row,), remarks = read("a.csv", content)
        assert (row, remarks) == ({"id": "1", "customer\ntext": "a, b"}, [])
        with pytest.raises(
            DataError, match=r'mean "customer\\ntext"\? \(the columns are: id, customer\\n'
        ):
            cell(Row(row, "a.csv:3"), "customer text")

    @pytest.mark.parametrize("end", ["\n", "\r"])
    def test_a_quote_that_opens_in_the_header_is_said_in_few_words(self, end: str) -> None:
        rows = ["", 'label,"text', *["a,some words"] * 1000, 'b,the last"', "c,x"]
        with pytest.raises(DataError) as raised:
            read("a.csv", end.join(rows))
        assert str(raised.value) == (
            "a.csv:2: a quote opens in the header and goes on to line 1003 (close it, or double "
            "it; names of columns are short; data.quotes: none, if quotes mean nothing "
            "here)"
        )

    def test_long_names_of_columns_are_shortened(self) -> None:
        long = "long " * 1000
        (row,), _ = read("a.csv", f"label,{long}\na,b\n")
        with pytest.raises(DataError, match=r"the columns are: label, long .*…") as raised:
            cell(Row(row, "a.csv:2"), "text")
        assert len(str(raised.value)) < 200
        with pytest.raises(DataError) as raised:
            read("a.csv", f"{long},{long}\na,b\n")
        assert len(str(raised.value)) < 200

    def test_texts_of_several_lines_are_no_rows(self) -> None:
        letters = [
            "Hello,\nI cannot log in, please",
            "1, 2\n3, 4\n5, 6",
            "yes, login\nno",
            "a\n\nb,",
        ]
        rows = [[text, LABELS[number % 3]] for number, text in enumerate(letters * 20)]
        for order in (1, -1):
            content = table([each[::order] for each in [["text", "label"], *rows]])
            found, remarks = read("a.csv", content)
            assert len(found) == 80
            assert remarks == []

    @pytest.mark.parametrize("name", ["banking77", "imdb5k"])
    def test_real_texts_of_several_lines_are_no_rows(self, real_data: Path, name: str) -> None:
        source = Files(FilesConfig())
        rows = list(source.rows(str(real_data / name / "train.csv")))
        assert sum("\n" in row.values["text"] for row in rows if isinstance(row, Row)) >= 10
        assert source.remarks == []

    def test_a_blank_before_a_quote_has_words_of_its_own(self) -> None:
        content = 'label,text\na, "x, y"\nb, "z"\nc,"fine, too"\n'
        (first, second, third), (remark,) = read("a.csv", content)
        assert first == (
            "a.csv:2: has 3 fields, but the header has 2 columns: a blank stands before a quote, "
            "which therefore quotes nothing (remove the blank)"
        )
        assert (second, third) == (
            {"label": "b", "text": ' "z"'},
            {"label": "c", "text": "fine, too"},
        )
        assert remark == (
            "a.csv:3: a blank stands before a quote, which is therefore a part of the value; "
            "remove the blank"
        )
