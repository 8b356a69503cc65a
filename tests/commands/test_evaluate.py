from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pandas as pd
import pytest

import nlpkit
from nlpkit.bundle.load import load
from nlpkit.cli.main import main
from tests.bundle.bundles import CLASSES, ROWS, TEXTS, make_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_run(tmp_path_factory.mktemp("runs") / "cards")


def test_accuracy_is_the_share_of_right_predictions(run: Path) -> None:
    predictions = load(run).predict(TEXTS)
    right = sum(each.label == label for each, label in zip(predictions, CLASSES, strict=True))
    values = nlpkit.evaluate(run, ROWS)
    assert values["accuracy"] == right / len(ROWS)
    assert values["loss"] > 0


def test_a_file_a_list_and_a_frame_give_the_same_values(run: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    values = nlpkit.evaluate(run, tmp_path / "rows.csv", batch_size=3)
    assert values == pytest.approx(nlpkit.evaluate(run / "bundle", ROWS), abs=1e-6)
    assert values == pytest.approx(nlpkit.evaluate(run, frame), abs=1e-6)


def test_columns_that_the_task_does_not_read_may_hold_anything(run: Path) -> None:
    rows = [{**row, "picture": b"x", "when": pd.Period("2026-03")} for row in ROWS]
    assert nlpkit.evaluate(run, rows) == nlpkit.evaluate(run, ROWS)


def test_what_is_odd_about_a_file_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv", index=False, sep=";")
    assert nlpkit.evaluate(run, tmp_path / "rows.csv") == nlpkit.evaluate(run, ROWS)
    assert "rows.csv: its beginning says that semicolons separate" in capsys.readouterr().err


def test_command_prints_a_table_or_json(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.csv"
    pd.DataFrame(ROWS).to_csv(data, index=False)
    capsys.readouterr()
    assert main(["evaluate", str(run), str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == nlpkit.evaluate(run, data)
    assert main(["evaluate", str(run), str(data)]) == 0
    table = capsys.readouterr().out
    assert "accuracy" in table
    assert "loss" in table


def test_a_bad_row_is_an_error_with_its_address(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,label\nmoney,balance\nmoney,lostt\nmoney,lostt\n")
    assert main(["evaluate", str(run), str(data)]) == 2
    message = capsys.readouterr().err
    assert 'rows.csv:3: column "label": "lostt" is not one of the 3 labels' in message
    assert 'did you mean "lost"?' in message
    assert "2 bad rows" in message


def test_data_without_targets_can_be_predicted_and_are_told_from_bad_ones(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "test.csv"
    data.write_text("id,text\n1,money\n2,my card\n")
    assert main(["predict", str(run), "--input", str(data)]) == 0
    assert main(["evaluate", str(run), str(data)]) == 2
    message = capsys.readouterr().err
    assert 'test.csv:2: column "label": does not exist (the columns are: id, text)' in message
    assert "none is good: an evaluation compares with targets, nlpkit predict needs none" in message


def test_rows_in_memory_have_an_address_too(run: Path) -> None:
    with pytest.raises(nlpkit.DataError, match="data row 1: "):
        nlpkit.evaluate(run, [ROWS[0], {"text": "", "label": "lost"}])
    with pytest.raises(nlpkit.InputError, match="no data rows"):
        nlpkit.evaluate(run, [])


def test_output_has_a_line_for_each_row_in_their_order(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "rows.csv", tmp_path / "said.jsonl"
    pd.DataFrame(ROWS).to_csv(data, index=False)
    assert main(["evaluate", str(run), str(data), "--output", str(output), "--json"]) == 0
    lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [line["address"].rpartition(":")[2] for line in lines] == list("23456789")
    assert [line["target"] for line in lines] == list(CLASSES)
    predictions = load(run).predict(TEXTS)
    assert [line["prediction"] for line in lines] == [each.label for each in predictions]
    assert [line["score"] for line in lines] == pytest.approx([p.score for p in predictions])
    right = sum(line["prediction"] == line["target"] for line in lines)
    assert json.loads(capsys.readouterr().out)["accuracy"] == right / len(lines)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_an_output_may_be_a_table_and_keep_columns_of_the_data(
    run: Path, tmp_path: Path, kind: str
) -> None:
    rows = [{"id": str(at), **row, "note": "a,\tb\n"} for at, row in enumerate(ROWS)]
    data, plain, output = tmp_path / "rows.csv", tmp_path / "plain.jsonl", tmp_path / f"a.{kind}"
    pd.DataFrame(rows).to_csv(data, index=False)
    nlpkit.evaluate(run, data, output=plain)
    said = [json.loads(line) for line in plain.read_text("utf-8").splitlines()]
    kept = [{"id": row["id"], "note": row["note"]} for row in rows]
    expected = [before | line for before, line in zip(kept, said, strict=True)]
    arguments = ["evaluate", str(run), str(data), "--output", str(output), "--keep", "id,note"]
    if kind == "jsonl":
        assert main(arguments) == 0
        assert [json.loads(line) for line in output.read_text("utf-8").splitlines()] == expected
        nlpkit.evaluate(run, pd.DataFrame(rows), output=output, keep=["id", "note"])
        lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
        assert [line | {"address": ""} for line in lines] == [
            line | {"address": ""} for line in expected
        ]
        return
    assert main([*arguments, "--encoding", "utf-8-sig"]) == 0
    with output.open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file, strict=True, delimiter="\t" if kind == "tsv" else ","))
    texts = [{name: str(value) for name, value in line.items()} for line in expected]
    assert found == texts
    assert list(found[0]) == list(texts[0])


def test_what_cannot_be_kept_is_said_in_the_words_of_who_asks(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "rows.csv", tmp_path / "said.csv"
    pd.DataFrame([{"score": 1, **row} for row in ROWS]).to_csv(data, index=False)
    given = ["evaluate", str(run), str(data)]
    for more, message in (
        (["--output", str(output), "--keep", "scor"], 'did you mean "score"? (the columns are: '),
        (["--output", str(output), "--keep", "score"], '--keep: "score" is what the output calls'),
        (["--keep", "id"], "--keep is for an --output"),
        (["--encoding", "utf-8-sig"], "is for an --output that is csv or tsv"),
    ):
        assert main([*given, *more]) == 2
        assert message in capsys.readouterr().err
    assert not output.exists()
    with pytest.raises(nlpkit.InputError, match="keep=NAMES is for an output=FILE"):
        nlpkit.evaluate(run, ROWS, keep=["id"])


def test_an_output_that_cannot_be_written_is_said_before_anything_is_computed(
    run: Path, tmp_path: Path
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "money", "label": "lost"}\n')
    for output, message in (
        (tmp_path / "said.txt", "must end in .jsonl"),
        (tmp_path / "no" / "said.jsonl", "there is no folder"),
        (tmp_path / f"{'x' * 300}.csv", "too long"),
        ("s3://bucket/out.csv", "output=FILE s3:/bucket/out.csv: is a URL; name a path on this"),
        (data, "is the data; name another output=FILE"),
    ):
        with pytest.raises(nlpkit.InputError, match=message):
            nlpkit.evaluate(run, data, output=output)
    assert data.read_text() == '{"text": "money", "label": "lost"}\n'


def test_a_run_stands_for_its_folder(run: Path, tmp_path: Path) -> None:
    trained = nlpkit.Run(run)
    assert nlpkit.evaluate(trained, ROWS) == nlpkit.evaluate(run, ROWS)
    assert nlpkit.load(trained).bundle.path == run / "bundle"
    artifact = nlpkit.export(trained, "state_dict", out=tmp_path / "weights")
    assert (artifact.path / "model.safetensors").is_file()
    assert nlpkit.Run(str(run)) == trained
