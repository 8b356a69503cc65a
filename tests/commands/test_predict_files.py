"""Files that `nlpkit predict` reads and writes beside UTF-8 csv and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from nlpkit.bundle.forms import form_of
from nlpkit.bundle.load import load
from nlpkit.cli.main import main
from nlpkit.commands.prediction_draft import Draft
from tests.bundle.bundles import make_run

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "möglich 卡"
CHINESE = "我的卡还没有到"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_run(tmp_path_factory.mktemp("runs") / "cards")


def predicted(run: Path, source: Path, *more: str) -> list[dict[str, Any]]:
    output = source.with_suffix(".out.jsonl")
    assert main(["predict", str(run), "--input", str(source), "--output", str(output), *more]) == 0
    return [json.loads(line) for line in output.read_text("utf-8").splitlines()]


def refused(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["predict", str(run), *arguments]) == 2
    return capsys.readouterr().err


def write_book(path: Path, *titles: str) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title in titles:
        book.create_sheet(title).append(["text"])
        book[title].append([f"{TEXT} {title}"])
    book.save(path)


def test_parquet_and_workbooks_are_read(run: Path, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": [TEXT, None]}), tmp_path / "a.parquet")
    rows = predicted(run, tmp_path / "a.parquet")
    assert [row["text"] for row in rows] == [TEXT, None]
    assert f'{tmp_path / "a.parquet"}:2: column "text": the text is empty' in rows[1]["error"]
    write_book(tmp_path / "a.xlsx", "S")
    assert [row["text"] for row in predicted(run, tmp_path / "a.xlsx")] == [f"{TEXT} S"]


def test_a_sheet_is_chosen(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.xlsx"
    write_book(source, "A", "B")
    assert "(name one, --sheet A)" in refused(run, capsys, "--input", str(source))
    assert [row["text"] for row in predicted(run, source, "--sheet", "B")] == [f"{TEXT} B"]
    assert "--sheet is for" in refused(run, capsys, "--input", "a.csv", "--sheet", "B")


@pytest.mark.parametrize("suffix", ["csv", "txt", "jsonl"])
def test_another_encoding_is_read_where_it_is_named(
    run: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / f"a.{suffix}"
    text = {"csv": f"text\n{CHINESE}\n", "txt": CHINESE, "jsonl": f'{{"text": "{CHINESE}"}}\n'}
    source.write_bytes(text[suffix].encode("gb18030"))
    said = refused(run, capsys, "--input", str(source))
    assert f'as GB18030 it reads "{CHINESE}' in said.replace('{"text": "', "")
    assert "(if that is right, --input-encoding gb18030; else save the file as UTF-8)" in said
    (row,) = predicted(run, source, "--input-encoding", "gb18030")
    assert row["text"] == CHINESE


def test_standard_input_may_be_in_another_encoding(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO(f"{CHINESE}\r\n{CHINESE}".encode("gb18030"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content, "utf-8"))
    capsys.readouterr()
    assert main(["predict", str(run), "--input-encoding", "gb18030"]) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["text"] for line in lines] == [CHINESE, CHINESE]


def test_an_unknown_encoding_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(run, capsys, "--input", "a.txt", "--input-encoding", "gb18031")
    assert 'did you mean "gb18030"?' in said


def test_csv_output_has_a_byte_order_mark_where_excel_needs_it(run: Path, tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain.csv", tmp_path / "marked.csv"
    assert main(["predict", str(run), TEXT, "--output", str(plain)]) == 0
    encoding = ["--encoding", "utf-8-sig"]
    assert main(["predict", str(run), TEXT, "--output", str(marked), *encoding]) == 0
    assert marked.read_bytes() == b"\xef\xbb\xbf" + plain.read_bytes()
    with marked.open(encoding="utf-8-sig", newline="") as file:
        assert next(csv.DictReader(file))["text"] == TEXT


def test_a_file_with_a_mark_is_gone_on_with(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nlpkit.bundle.predict.WINDOW", 1)
    source, output = tmp_path / "a.txt", tmp_path / "a.csv"
    source.write_text(f"{TEXT}\n" * 150, "utf-8")
    arguments = ["predict", str(run), "--input", str(source), "--output", str(output)]
    marked = [*arguments, "--encoding", "utf-8-sig"]
    model = load(run)
    decides = {"precision": "fp32", "columns": model.columns, "encoding": "utf-8-sig"}
    draft = Draft(output, form_of(None, list), model, top_k=None, **decides)
    assert main([*marked, "--resume"]) == 0
    whole = output.read_bytes()
    output.rename(draft.path)
    assert "--column, --encoding); repeat" in refused(run, capsys, *arguments[2:], "--resume")
    assert main([*marked, "--resume"]) == 0
    assert "goes on after 150 rows" in capsys.readouterr().err
    assert output.read_bytes() == whole


def test_json_lines_have_no_mark(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marked = ["--encoding", "utf-8-sig"]
    for output in ([], ["--output", str(tmp_path / "a.jsonl")]):
        assert "is for an --output that is csv" in refused(run, capsys, TEXT, *output, *marked)


def test_rows_that_two_quotes_made_one_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.csv"
    lines = [f"{number},where is case {number}" for number in range(100, 120)]
    lines[3], lines[5] = lines[3].replace(",", ',"'), lines[5] + '"'
    source.write_text("\n".join(["id,text", *lines]))
    assert len(predicted(run, source)) == 18
    said = capsys.readouterr().err
    named = f"warning: {source}:5: 1 quoted value holds what look like rows: lines 5 to 7; close"
    assert said.count(named) == 1
    assert "the quotes; --quotes none, if quotes mean nothing here" in said
    assert [row["text"][-1] for row in predicted(run, source, "--quotes", "none")[3:6]] == [
        "3",
        "4",
        '"',
    ]
    said = capsys.readouterr().err
    assert "warning" not in said
    assert "several" not in said


def test_texts_of_several_lines_are_counted_where_no_column_tells_whether_they_are_rows(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.csv"
    source.write_text('text\na\n"b\nc\nd"\ne\n"f\ng"\n')
    assert len(predicted(run, source)) == 4
    said = capsys.readouterr().err.splitlines()
    assert said[-2] == f"2 texts have several lines, the first at {source}:3"


def test_what_separates_values_is_said_or_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.csv"
    source.write_text(f"id;text\n1;{TEXT}, {TEXT}\n")
    assert [row["text"] for row in predicted(run, source)] == [f"{TEXT}, {TEXT}"]
    assert 'and so it is read; --delimiter ";" says it for good' in capsys.readouterr().err
    predicted(run, source, "--delimiter", ";")
    assert "warning" not in capsys.readouterr().err
    said = refused(run, capsys, "--input", str(source), "--delimiter", ";;")
    assert "delimiter: must be auto or one character" in said


def test_what_the_runs_config_says_of_separators_holds_where_a_file_has_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, source = tmp_path / "run", tmp_path / "a.csv"
    shutil.copytree(run, trained)
    config = (trained / "config.yaml").read_text("utf-8")
    config = config.replace("delimiter: auto", "delimiter: ;").replace(
        "quotes: auto", "quotes: none"
    )
    (trained / "config.yaml").write_text(config, "utf-8")
    source.write_text('id, a, b;text\n1;"x, y\n')
    assert [row["text"] for row in predicted(trained, source)] == ['"x, y']
    assert "warning" not in capsys.readouterr().err
    source.write_text('id\ttext\n1\t"x; y"\n')  # is as another file was
    assert [row["text"] for row in predicted(trained, source)] == ["x; y"]
    assert "its beginning says that tabs separate the values" in capsys.readouterr().err
    source.write_text("id,text\n1,x;y\n")
    assert [row["text"] for row in predicted(trained, source, "--delimiter", ",")] == ["x;y"]
    assert "warning" not in capsys.readouterr().err


def test_a_text_of_an_odd_type_is_a_bad_row(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [b"x", b"y"], "n": [1, 2]}), source)
    output = tmp_path / "out.jsonl"
    said = refused(run, capsys, "--input", str(source), "--output", str(output))
    assert f'{source}:1: column "text": is bytes; give text' in said


def test_a_text_without_end_is_a_bad_row(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text(f"money\n{'money ' * 400_000}\nmoney\n")
    first, bad, last = predicted(run, source)
    assert first["label"] == last["label"]
    assert first["score"] == pytest.approx(last["score"], rel=1e-6)
    assert f"{source}:2: the text has 2,400,000 characters; is a quote open?" in bad["error"]
