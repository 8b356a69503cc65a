from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nlpkit.bundle.load import load
from nlpkit.cli.main import main
from tests.bundle.bundles import LABELS, NUMBERS, PAIRS, TEXTS, make_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_run(tmp_path_factory.mktemp("runs") / "cards")


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def written(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expected(run: Path, texts: list[str]) -> list[dict[str, object]]:
    predictions = load(run).predict(texts)
    return [{"text": text, **each.row()} for text, each in zip(texts, predictions, strict=True)]


def test_texts_are_predicted_as_json_lines_when_piped(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["predict", str(run), *TEXTS]) == 0
    assert printed(capsys) == expected(run, list(TEXTS))


def test_texts_are_predicted_as_a_table_on_a_terminal(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["predict", str(run), "where is my money"]) == 0
    heading, _, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["text", "label", "score"]
    assert row.startswith("where is my money")


def test_standard_input_is_a_text_a_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("where is my money\r\nmoney\n"))
    assert main(["predict", str(run)]) == 0
    assert printed(capsys) == expected(run, ["where is my money", "money"])


def test_a_terminal_without_texts_is_asked_for_some(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert main(["predict", str(run)]) == 2
    assert "give TEXTs, --input FILE" in capsys.readouterr().err


def test_a_file_keeps_its_order_and_its_bad_rows_in_place(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_text('id,text\n1,where is my money\n2,""\n3,"two\nlines"\n4\n5,money\n')
    assert main(["predict", str(run), "--input", str(source), "--output", str(output)]) == 0
    rows = written(output)
    assert [row["text"] for row in rows] == ["where is my money", "", "two\nlines", None, "money"]
    good = expected(run, ["where is my money", "two\nlines", "money"])
    assert [rows[0], rows[2], rows[4]] == good
    assert f'{source.name}:3: column "text": the text is empty' in str(rows[1]["error"])
    assert f"{source.name}:6: has 1 field" in str(rows[3]["error"])
    said = capsys.readouterr().err
    assert "2 of 5 texts could not be predicted" in said
    assert f"3 predictions, 2 errors in {output}" in said
    assert main(["predict", str(run), "money", "--output", str(output)]) == 0
    assert f"1 prediction in {output}" in capsys.readouterr().err


def test_another_column_can_be_named(run: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"question": "money", "label": "nobody"}\n')
    arguments = ["predict", str(run), "--input", str(source), "--output", str(output)]
    assert main(arguments) == 2
    assert main([*arguments, "--column", "question"]) == 0
    assert written(output) == expected(run, ["money"])


def test_a_missing_column_is_answered_with_those_that_are_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_text("id,txt\n1,money\n")
    assert main(["predict", str(run), "--input", str(source), "--output", str(output)]) == 2
    message = capsys.readouterr().err
    assert 'column "text": does not exist; did you mean "txt"?' in message
    assert "the columns are: id, txt; choose with --column" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_a_txt_file_is_a_text_a_line(run: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_bytes("\ufeffwhere is my money\r\nmoney".encode())
    assert main(["predict", str(run), "--input", str(source), "--output", str(output)]) == 0
    assert written(output) == expected(run, ["where is my money", "money"])


def test_what_is_not_utf_8_is_named(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "in.txt").write_bytes(b"m\xf6glich")
    assert main(["predict", str(run), "--input", str(tmp_path / "in.txt")]) == 2
    assert "in.txt:1: byte 0xf6 at offset 1 of the file is not UTF-8" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"m\xf6glich"), "utf-8"))
    assert main(["predict", str(run)]) == 2
    assert (
        "standard input:1: byte 0xf6 at offset 1 of the file is not UTF-8"
        in capsys.readouterr().err
    )
    assert main(["predict", str(run), "m\udcc3\udcb6glich"]) == 0  # where the locale lacks ö
    assert printed(capsys) == expected(run, ["möglich"])
    assert main(["predict", str(run), "m\udcf6glich"]) == 2
    assert "a TEXT is not UTF-8" in capsys.readouterr().err
    lenient = io.TextIOWrapper(io.BytesIO(b"m\xf6glich"), "ascii", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdin", lenient)  # as Python opens it in the C locale
    assert main(["predict", str(run)]) == 2
    assert (
        "standard input:1: byte 0xf6 at offset 1 of the file is not UTF-8"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("content", ["m\xf6glich".encode(), "\ufeffm\xf6glich".encode()])
def test_standard_input_is_utf_8_whatever_the_locale(
    run: Path, content: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "latin-1"))
    assert main(["predict", str(run)]) == 0
    assert printed(capsys)[0]["text"] == "m\xf6glich"


@pytest.mark.parametrize("name", ["missing.csv", "missing.txt", "picture.png"])
def test_an_input_that_cannot_be_read_is_named(
    run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run), "--input", str(tmp_path / name)]) == 2
    assert name in capsys.readouterr().err


def test_csv_output_has_a_column_for_each_field_and_one_for_errors(
    run: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text('{"text": ""}\n{"text": "a, \\"b\\""}\n')
    assert main(["predict", str(run), "--input", str(source), "--output", str(output)]) == 0
    with output.open(encoding="utf-8", newline="") as file:
        bad, good = csv.DictReader(file)
    assert list(good) == ["text", "label", "score", "error"]
    assert "the text is empty" in bad["error"]
    assert good["text"] == 'a, "b"'
    assert good["error"] == ""
    assert float(good["score"]) == expected(run, ['a, "b"'])[0]["score"]


def test_the_likeliest_labels_are_given_best_first(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (prediction,) = load(run).predict(["money"])
    best = sorted(prediction.scores.items(), key=lambda item: -item[1])[:2]
    top = [{"label": label, "score": score} for label, score in best]
    output = tmp_path / "out.csv"
    capsys.readouterr()
    assert main(["predict", str(run), "money", "--top-k", "2"]) == 0
    assert printed(capsys) == [{"text": "money", **prediction.row(), "top": top}]
    assert main(["predict", str(run), "money", "--top-k", "2", "--output", str(output)]) == 0
    with output.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert json.loads(row["top"]) == top
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["predict", str(run), "money", "--top-k", "2"]) == 0
    shown = ", ".join(f"{label} {score:.4g}" for label, score in best)
    assert shown in capsys.readouterr().out


def test_the_backend_is_handed_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), "money", "--backend", "torch"]) == 0
    assert main(["predict", str(run), "money", "--backend", "onnx"]) == 2
    assert "nlpkit export RUN onnx" in capsys.readouterr().err


def test_csv_output_of_several_labels_holds_json(tmp_path: Path) -> None:
    run = make_run(tmp_path / "many", LABELS, target="multilabel")
    output = tmp_path / "out.csv"
    assert main(["predict", str(run), "money", "--output", str(output)]) == 0
    with output.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    (prediction,) = load(run).predict(["money"])
    assert json.loads(row["labels"]) == prediction.labels
    assert json.loads(row["scores"]) == prediction.scores


def test_regression_writes_a_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "number", NUMBERS, target="regression")
    capsys.readouterr()
    assert main(["predict", str(run), "money"]) == 0
    assert list(printed(capsys)[0]) == ["text", "value"]
    assert main(["predict", str(run), "money", "--top-k", "2"]) == 2
    assert "top_k: the task predicts no labels" in capsys.readouterr().err


def test_pairs_come_from_two_texts_or_two_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "pairs", PAIRS, text=["first", "second"])
    source = tmp_path / "in.csv"
    source.write_text("a,b\nmy card,money\n")
    capsys.readouterr()
    assert main(["predict", str(run), "my card", "money"]) == 0
    (typed,) = printed(capsys)
    assert typed["text"] == ["my card", "money"]
    columns = ["--column", "a", "--column", "b"]
    assert main(["predict", str(run), "--input", str(source), *columns]) == 0
    assert printed(capsys) == [typed]
    assert main(["predict", str(run), "my card", "money", "alone"]) == 2
    assert main(["predict", str(run), "--input", str(source), "--column", "a"]) == 2


def test_nothing_predictable_is_an_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), " "]) == 2
    assert 'TEXT 1: column "text": the text is empty' in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.txt", "nowhere/out.csv", "folder.csv", f"{'x' * 300}.csv"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert main(["predict", "no-run-is-looked-for", "a", "--output", str(tmp_path / name)]) == 2
    assert f"{name}: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_a_missing_run_is_one_readable_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tmp_path / "nothing"), "money"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">/dev/full", 1, "error: No space left on device"),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("<&-", 0, ""),
    ],
)
def test_an_output_that_is_full_or_closed_is_no_traceback(
    run: Path, redirection: str, code: int, said: str
) -> None:
    program = "import sys; from nlpkit.cli.main import main; sys.exit(main())"
    line = f"exec {sys.executable} -c '{program}' predict {run} money {redirection}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (code, said)


def test_a_disk_that_is_full_is_named_with_the_file(run: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("money\n" * 500)
    program = "import sys; from nlpkit.cli.main import main; sys.exit(main())"
    arguments = ["predict", str(run), "--input", str(source), "--output", str(output)]
    line = f"ulimit -f 8; exec {sys.executable} -c '{program}' {shlex.join(arguments)}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {output}: File too large"
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_closed_standard_input_without_texts_asks_for_some(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["predict", "run"]) == 2
    assert "give TEXTs, --input FILE" in capsys.readouterr().err
