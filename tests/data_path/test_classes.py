"""Classes that the library datasets numbers have their names wherever the rows come from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, disable_progress_bars
from pyarrow import parquet

from nlpkit.data import classes
from nlpkit.data.rows import BadRows, scan, write_rows
from nlpkit.errors import DataError
from nlpkit_data.config import FilesConfig, HuggingfaceConfig
from nlpkit_data.files import Files
from nlpkit_data.huggingface import Huggingface
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = Features(
    {
        "text": Value("string"),
        "label": ClassLabel(names=["差评", "好评"]),
        "topics": List(ClassLabel(names=["a", "b"])),
        "pair": List(ClassLabel(names=["a", "b"]), length=2),
        "number": Value("int64"),
    }
)
VALUES = {
    "text": ["x", "y", "z"],
    "label": [1, 0, -1],
    "topics": [[1, 0], [], [0]],
    "pair": [[0, 0], [0, 1], [1, 1]],
    "number": [0, 1, -1],
}
NAMED = [
    {"text": "x", "label": "好评", "topics": ["b", "a"], "pair": ["a", "a"], "number": 0},
    {"text": "y", "label": "差评", "topics": [], "pair": ["a", "b"], "number": 1},
    {"text": "z", "label": None, "topics": ["a"], "pair": ["b", "b"], "number": -1},
]
HOW = [
    "saved to a folder",
    "a folder of parquet",
    "parquet",
    "in memory",
    "in memory, as numpy",
    "in memory, as torch",
    "in memory, as arrow",
]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    disable_progress_bars()


def source(dataset: Dataset, how: str, folder: Path) -> tuple[Any, str]:
    """A source of these rows, and their location."""
    files, path = Files(FilesConfig()), folder / "rows" / "train.parquet"
    if how == "saved to a folder":
        dataset.save_to_disk(str(folder / "saved"))
        return Huggingface(HuggingfaceConfig()), str(folder / "saved")
    if how.startswith("in memory"):
        ways = {name: dataset.with_format(name) for name in ("numpy", "torch")}
        ways["arrow"] = dataset.with_format("arrow")[:]
        write_rows(ways.get(how.rpartition(" ")[2], dataset), folder / "train.jsonl", "train")
        return files, str(folder / "train.jsonl")
    path.parent.mkdir()
    dataset.to_parquet(str(path))
    if how == "parquet":
        return files, str(path)
    return Huggingface(HuggingfaceConfig()), str(path.parent)


@pytest.mark.parametrize("how", HOW)
def test_the_same_rows_have_the_same_labels(how: str, tmp_path: Path) -> None:
    rows, location = source(Dataset.from_dict(VALUES, features=FEATURES), how, tmp_path)
    assert [dict(row.values) for row in rows.rows(location)] == NAMED
    bad = BadRows("skip")
    good, _ = scan(rows, location, SequenceTask(SequenceConfig()), bad)
    assert (len(good), bad.count) == (2, 1)  # -1 is no label
    assert "the label is empty" in bad.summary()[0]["problem"]
    assert SequenceTask(SequenceConfig()).fit(good)["labels"] == ["好评", "差评"]
    several = SequenceTask(SequenceConfig(label="topics", target="multilabel"))
    assert several.fit(good)["counts"] == {"a": 1, "b": 1}


NO_YES = ClassLabel(names=["no", "yes"])


def learned(task: SequenceTask, rows: Any) -> None:
    rows = list(rows)
    for row in rows:
        task.stratum(row)  # looks at the weight
    task.fit(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target": "multilabel", "label": ["a", "b"]},
            '"yes" is neither 0 nor 1 (write 0 or 1; of',
        ),
        ({"target": "regression", "label": "a"}, '"yes" is not a finite number (of'),
        ({"label": "b", "weight": "a"}, '"yes" is not a finite number (of'),
        (
            {"target": "multilabel", "label": "hot", "labels": ["x", "y", "z"]},
            "is no list of 0 and 1 (leave task.labels out where cells name their labels; of",
        ),
        (
            {"target": "multilabel", "label": "hot"},
            "each row lists 3 or more labels, and they are only 2 (if they are no and yes, "
            "task.labels: [a, b, c] names the places of such lists; of",
        ),
    ],
)
def test_where_numbers_are_asked_for_classes_can_be_cast_to_them(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    features = Features(
        {"text": Value("string"), "a": NO_YES, "b": NO_YES, "hot": List(NO_YES)},
    )
    values = {"text": ["x", "y"], "a": [1, 0], "b": [0, 1], "hot": [[1, 0, 0], [0, 1, 1]]}
    dataset = Dataset.from_dict(values, features=features)
    task = SequenceTask(SequenceConfig(**options))
    rows, location = source(dataset, "in memory", tmp_path)
    with pytest.raises(DataError) as caught:
        learned(task, rows.rows(location))
    assert f"{message} a ClassLabel take the numbers: dataset.cast_column(" in str(caught.value)
    for column in ("a", "b") if "hot" != options["label"] else ("hot",):
        kind = List(Value("int64")) if column == "hot" else Value("int64")
        dataset = dataset.cast_column(column, kind)
    if message.startswith("each"):
        task = SequenceTask(SequenceConfig(**options, labels=["x", "y", "z"]))
    rows, location = source(dataset, "in memory", tmp_path)
    learned(task, rows.rows(location))


def test_a_number_without_a_class_is_a_bad_row(tmp_path: Path) -> None:
    """The library refuses such a row; other programs write them all the same."""
    names = {"label": ["no", "yes"]}
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    table = pa.table({"text": ["x", "y", "z"], "label": [1, 2, -2]})
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    parquet.write_table(table, tmp_path / "train.parquet")
    first, *others = Files(FilesConfig()).rows(str(tmp_path / "train.parquet"))
    assert not isinstance(first, DataError)
    assert first.values["label"] == "yes"
    for number, (row, value) in enumerate(zip(others, (2, -2), strict=True), 2):
        texts = SequenceTask(SequenceConfig()).texts(row, targets=True)  # which are read first
        assert texts == {"text": "xyz"[number - 1]}
        with pytest.raises(DataError) as caught:
            SequenceTask(SequenceConfig()).stratum(row)
        assert str(caught.value).rpartition("/")[2] == (
            f'train.parquet:{number}: column "label": "{value}" is no class: there are 2, from 0'
        )
    assert classes.named({"label": "yes"}, names, "x:1") == {"label": "yes"}  # a name


def test_lists_and_descriptions_of_older_versions_are_understood() -> None:
    label = {"num_classes": 2, "names": ["no", "yes"], "names_file": None, "_type": "ClassLabel"}
    features = {
        "one": label,
        "old": [label],
        "older": {"feature": label, "length": -1, "id": None, "_type": "Sequence"},
        "deep": {"feature": {"feature": label, "_type": "List"}, "_type": "LargeList"},
        "struct": {"feature": {"dtype": "string", "_type": "Value"}},
    }
    found = classes.of_metadata(
        {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    )
    assert found == {key: ["no", "yes"] for key in ("one", "old", "older", "deep")}
    assert classes.named({"deep": [[1], [0, -1]]}, found, "") == {"deep": [["yes"], ["no", None]]}


@pytest.mark.parametrize(
    "metadata", [b"", b"[]", b'{"info": null}', b'{"info": {"features": [1]}}']
)
def test_metadata_of_others_mean_nothing(metadata: bytes) -> None:
    assert classes.of_metadata({b"huggingface": metadata}) == {}
    assert classes.of_metadata(None) == {}


def test_rows_that_are_no_dataset_have_no_classes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"features": ["x", "y"], "label": [0, 1]})
    write_rows(frame, tmp_path / "train.jsonl", "train")
    assert classes.of_dataset([{"label": 1}]) == {}
    assert '"label": 0' in (tmp_path / "train.jsonl").read_text()
