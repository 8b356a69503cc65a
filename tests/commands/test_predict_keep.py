"""`nlpkit predict --keep`: columns of the input in the output, before what is predicted."""

from __future__ import annotations

import csv
import datetime
import json
from typing import TYPE_CHECKING, Any

import openpyxl
import pyarrow as pa
import pytest
from pyarrow import parquet

from nlpkit.cli.main import main
from nlpkit.commands.prediction_draft import drafts
from tests.bundle.bundles import PAIRS, make_run

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    {"id": 7, "text": "money", "date": "2026-03-01"},
    {"id": 8, "text": "my card", "date": None},
    {"id": 9, "text": "", "date": 'a "quoted", one'},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_run(tmp_path_factory.mktemp("runs") / "cards")


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
            book.active.append(row)
        book.save(path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(
                file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            table.writeheader()
            table.writerows(rows)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    with path.open(encoding="utf-8", newline="") as file:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        return list(csv.DictReader(file, strict=True, delimiter=delimiter))


@pytest.mark.parametrize("target", ["jsonl", "csv", "tsv"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_kept_columns_stand_first_for_bad_rows_too(
    run: Path, tmp_path: Path, kind: str, target: str
) -> None:
    source, output = write(tmp_path / f"in.{kind}"), tmp_path / f"out.{target}"
    given = ["--input", str(source), "--output", str(output), "--keep", "id, date"]
    assert main(["predict", str(run), *given]) == 0
    found = lines(output)
    assert all(list(line)[:3] == ["id", "date", "text"] for line in found)
    text = kind in ("csv", "tsv") or target in ("csv", "tsv")
    assert [line["id"] for line in found] == (["7", "8", "9"] if text else [7, 8, 9])
    dates = ["2026-03-01", "" if text else None, 'a "quoted", one']
    assert [line["date"] for line in found] == dates
    assert "error" in found[2]
    assert found[0]["label"]


def test_values_of_any_kind_are_kept(run: Path, tmp_path: Path) -> None:
    values = {"tags": ["a", "b"], "more": {"deep": 1}, "flag": True, "none": None, "big": 2**70}
    source = write(tmp_path / "in.jsonl", [{"text": "money", **values}])
    given = ["predict", str(run), "--input", str(source), "--keep", ",".join(values), "--output"]
    assert main([*given, str(tmp_path / "out.jsonl")]) == 0
    (line,) = lines(tmp_path / "out.jsonl")
    assert {name: line[name] for name in values} == values
    assert main([*given, str(tmp_path / "out.csv")]) == 0
    (line,) = lines(tmp_path / "out.csv")
    assert json.loads(line["tags"]) == ["a", "b"]
    assert json.loads(line["more"]) == {"deep": 1}
    assert (line["flag"], line["none"], line["big"]) == ("true", "", str(2**70))
    when = [{"text": "money", "at": datetime.datetime(2026, 3, 1, 12, 30)}]
    source = write(tmp_path / "in.parquet", when)
    given = ["predict", str(run), "--input", str(source), "--keep", "at", "--output"]
    assert main([*given, str(tmp_path / "out.jsonl")]) == 0
    assert lines(tmp_path / "out.jsonl")[0]["at"] == "2026-03-01 12:30:00"


def test_a_cell_that_json_has_not_is_null_and_costs_nothing_else(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": 7, "far": float("inf"), "raw": b"odd", "text": "money"}]
    source, output = write(tmp_path / "in.parquet", rows), tmp_path / "out.jsonl"
    given = ["predict", str(run), "--input", str(source), "--keep", "id,far,raw"]
    assert main([*given, "--output", str(output)]) == 0
    (line,) = lines(output)
    assert (line["id"], line["far"], line["raw"], line["text"]) == (7, None, None, "money")
    assert line["label"]
    capsys.readouterr()
    assert main(given) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == line


def test_a_text_that_cannot_be_read_leaves_what_is_kept(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.parquet", [{"id": 7, "text": b"odd"}])
    assert main(["predict", str(run), "--input", str(source), "--keep", "id"]) == 2
    bad = json.loads(capsys.readouterr().out)
    assert (bad["id"], bad["text"]) == (7, None)
    assert "is bytes" in bad["error"]


def test_names_with_commas_and_the_columns_of_a_broken_row(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('"a,b",id,text\n1,2,money\n3\n')
    given = ["--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.jsonl")]
    assert main(["predict", str(run), *given, "--keep", '"a,b"', "--keep", "id"]) == 0
    first, broken = lines(tmp_path / "out.jsonl")
    assert (first["a,b"], first["id"]) == ("1", "2")
    assert list(broken) == ["a,b", "id", "text", "error"]
    assert broken["id"] is None


@pytest.mark.parametrize("name", ["text", "label", "score", "error"])
@pytest.mark.parametrize("target", ["jsonl", "csv"])
def test_a_field_of_a_prediction_is_never_overwritten(
    run: Path, tmp_path: Path, name: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.csv", [{"message": "money", name: "mine"}])
    output = tmp_path / f"out.{target}"
    given = ["--input", str(source), "--output", str(output), "--column", "message"]
    assert main(["predict", str(run), *given, "--keep", name]) == 2
    assert f'--keep: "{name}" is what the output calls a column' in capsys.readouterr().err
    assert not output.exists()


def test_what_cannot_be_kept_is_said_before_anything_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write(tmp_path / "in.csv"), tmp_path / "out.jsonl"
    given = ["predict", str(run), "--input", str(source), "--output", str(output), "--keep", "dat"]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert 'column "dat": does not exist; did you mean "date"?' in said
    assert "choose with --keep" in said
    assert main(["predict", str(run), "money", "--keep", "id"]) == 2
    assert "--keep is for an --input with columns" in capsys.readouterr().err
    assert main([*given[:-1], " ,"]) == 2
    assert "names no column" in capsys.readouterr().err


def test_what_is_kept_of_pairs_may_be_one_of_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "pairs", PAIRS, text=["first", "second"])
    rows = [{"a": "money", "b": "card", "first": "mine"}]
    source, output = write(tmp_path / "in.csv", rows), tmp_path / "out.jsonl"
    given = ["--input", str(source), "--output", str(output), "--column", "a", "--column", "b"]
    assert main(["predict", str(run), *given, "--keep", "first"]) == 0
    (line,) = lines(output)
    assert (line["first"], line["text"]) == ("mine", ["money", "card"])


@pytest.mark.parametrize("target", ["jsonl", "csv", "tsv"])
def test_an_interrupted_output_with_kept_columns_is_gone_on_with(
    run: Path,
    tmp_path: Path,
    target: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nlpkit.bundle.predict.WINDOW", 1)
    rows = [{"id": f'"{at},\t\n', "text": "card " * (at % 5), "date": at} for at in range(150)]
    source, output = write(tmp_path / "in.csv", rows), tmp_path / f"out.{target}"
    given = ["predict", str(run), "--input", str(source), "--output", str(output)]
    keep = [*given, "--keep", "id,date"]
    assert main([*keep, "--resume"]) == 0
    whole = output.read_bytes()
    assert [line["id"] for line in lines(output)] == [row["id"] for row in rows]
    assert main([*keep, "--resume"]) == 0
    assert "is finished" in capsys.readouterr().err
    monkeypatch.setattr("nlpkit.commands.prediction_draft.Draft.check", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        main(keep)
    monkeypatch.undo()
    monkeypatch.setattr("nlpkit.bundle.predict.WINDOW", 1)
    (draft,) = drafts(output)
    assert draft.read_bytes() == whole
    capsys.readouterr()
    assert main([*given, "--resume"]) == 2  # without the columns
    assert "begun with another model or other options" in capsys.readouterr().err
    changed = write(tmp_path / "changed.csv", [{**row, "date": 0} for row in rows])
    assert main([*keep[:3], str(changed), *keep[4:], "--resume"]) == 2
    assert "the rows up to here are others than in" in capsys.readouterr().err
    output.unlink()
    assert main([*keep, "--resume"]) == 0
    assert "goes on after 128 rows" in capsys.readouterr().err
    assert output.read_bytes() == whole


def stop(*_: object) -> None:
    raise RuntimeError("stopped")
