"""Texts as lists of their words: in Python, in files, and with what was meant beside them."""

from __future__ import annotations

import csv
import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import nlpkit
from nlpkit.bundle.fields import fields
from nlpkit.bundle.predict import Model
from nlpkit.cli.main import main
from nlpkit.commands.prediction_draft import drafts
from nlpkit.commands.prediction_lines import Lines
from nlpkit.contracts import Prediction, Row
from tests.bundle.words import ENTITIES, ROWS, lines, train, unscored

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [row["tokens"] for row in ROWS]
SAID = [{"text": words, "entities": each} for words, each in zip(WORDS, ENTITIES, strict=True)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return train(tmp_path_factory.mktemp("runs") / "words")


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return nlpkit.load(run)


def predicted(run: Path, source: Path, *more: str, suffix: str = ".jsonl") -> bytes:
    output = source.with_name(f"{source.name}{suffix}")
    assert main(arguments(run, source, output, *more)) == 0
    return output.read_bytes()


def arguments(run: Path, source: Path, output: Path, *more: str) -> list[str]:
    files = "--input", str(source), "--output", str(output)
    return ["predict", str(run), *files, *more]


def parsed(content: bytes) -> list[Any]:
    return [json.loads(line, object_hook=unscored) for line in content.splitlines()]


def test_words_are_given_as_lists_of_any_kind(model: Model) -> None:
    expected = [line["entities"] for line in SAID]
    kinds = [
        WORDS,
        map(tuple, WORDS),
        [np.array(words) for words in WORDS],
        [np.array(words, object) for words in WORDS],
        pyarrow.array(WORDS),
    ]
    for texts in kinds:
        found = model.predict(texts)
        assert [list(map(unscored, each.entities)) for each in found] == expected


def test_words_and_texts_may_be_mixed(model: Model) -> None:
    listed, whole = model.predict([["Rome", "calls", "Peter"], "Rome calls Peter"])
    assert [each["start"] for each in listed.entities] == [0, 2]
    assert [each["start"] for each in whole.entities] == [0, 11]


@pytest.mark.parametrize("bad", [[], ["EU", None], ["EU", 5], [["EU"]], None])
def test_what_are_no_words_is_told_from_the_others(model: Model, bad: Any) -> None:
    good, error = model.outcomes([["EU"], bad])
    assert isinstance(good, Prediction)
    assert str(error).startswith('text 1: column "tokens": ')


def test_a_task_of_texts_takes_no_lists(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.task, "words", False)
    with pytest.raises(nlpkit.DataError, match=r'^text 0: "\[\'EU\', \'rejects\'\]" is a list; the '
                       "task takes single texts$"):  # fmt: skip
        model.predict([["EU", "rejects"]])
    with pytest.raises(nlpkit.DataError, match="is a tuple; the task takes single texts"):
        model.predict([("EU", "rejects")])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".conll", ".bio.gz"])
def test_files_of_words_give_a_line_each_with_the_words(
    run: Path, tmp_path: Path, suffix: str
) -> None:
    source = tmp_path / f"in{suffix}"
    if suffix == ".jsonl":
        source.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), source)
    else:
        content = lines().encode()
        source.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    assert parsed(predicted(run, source)) == SAID
    kept = [{"tags": row["tags"], **line} for row, line in zip(ROWS, SAID, strict=True)]
    assert parsed(predicted(run, source, "--keep", "tags")) == kept


def test_a_file_without_tags_and_columns_of_other_names_are_predicted(
    run: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.conll"
    source.write_text("\n\n".join("\n".join(words) for words in WORDS))
    assert parsed(predicted(run, source)) == SAID
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f"{json.dumps({'words': words})}\n" for words in WORDS))
    assert parsed(predicted(run, source, "--column", "words")) == SAID


def test_a_broken_line_spoils_its_sentence_alone(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.conll"
    source.write_text("Rome\n\n" + lines())
    error, *others = parsed(predicted(run, source))
    assert others == SAID
    assert error["text"] is None
    assert error["error"].startswith(f"{source}:1: has 1 column, ")


def test_a_table_has_lists_as_json(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.conll"
    source.write_text(lines())
    rows = list(csv.DictReader(predicted(run, source, suffix=".csv").decode().splitlines()))
    assert [row.pop("error") for row in rows] == [""] * len(ROWS)
    cells = [f'{{"text": {row["text"]}, "entities": {row["entities"]}}}' for row in rows]
    assert parsed("\n".join(cells).encode()) == SAID


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_of_words_goes_on_to_the_same_bytes(
    run: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlpkit.bundle.predict.WINDOW", 1)
    source = tmp_path / "in.conll"
    source.write_text("broken\n".join([lines() + "\n"] * 40))
    keep = ("--keep", "tags")
    whole, seen = predicted(run, source, *keep, suffix=suffix), 0

    def outcomes(self: Model, texts: Any, **options: Any) -> Any:
        nonlocal seen
        for outcome in original(self, texts, **options):
            seen += 1
            if seen == 100:
                raise OSError("the disk is gone")
            yield outcome

    original = Model.outcomes
    output = source.with_name(f"{source.name}{suffix}")
    output.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Model, "outcomes", outcomes)
        assert main(arguments(run, source, output, *keep)) == 1
    (draft,) = drafts(output)
    assert whole.startswith(draft.read_bytes())
    assert draft.read_bytes().count(b"\n") == 64 + (suffix == ".csv")
    assert predicted(run, source, *keep, "--resume", suffix=suffix) == whole


@pytest.mark.parametrize("name", ["text", "error"])
def test_no_field_has_the_name_of_what_lines_say_themselves(
    model: Model, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    taken = Prediction(**{name: "x"})
    monkeypatch.setattr(model.codec, "decode", lambda outputs, batch: [taken])
    with pytest.raises(nlpkit.PluginError, match=f'predicts a field "{name}", which lines have'):
        list(Lines(model, [Row({"tokens": "a"}, "a:1")], top_k=None))
    assert fields(Prediction(label="x", texts=5), None, "") == {"label": "x", "texts": 5}


def test_an_evaluation_has_the_tags_that_were_meant(run: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.conll", tmp_path / "out.jsonl"
    source.write_text(lines(ROWS[1:]) + "\n" + lines([{"tokens": ["Rome"], "tags": ["O"]}]))
    options = "--output", str(output), "--json"
    assert main(["evaluate", str(run), str(source), *options]) == 0
    *right, wrong = parsed(output.read_bytes())
    assert [line["target"] for line in right] == [line["entities"] for line in SAID[1:]]
    assert [line["prediction"] for line in right] == [line["entities"] for line in SAID[1:]]
    assert wrong == {
        "address": f"{source}:11",
        "target": [],
        "prediction": [{"text": "Rome", "label": "LOC", "start": 0, "end": 1}],
    }
