"""Lists in the cells of rows in memory are lists, whatever holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from nlpkit.data.rows import write_rows
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files
from tests.bundle.words import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = ["O", "B-LOC", "B-MISC", "B-ORG", "B-PER", "I-PER"]
NUMBERED = [{**row, "tags": [NAMES.index(tag) for tag in row["tags"]]} for row in ROWS]
FEATURES = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=NAMES))})


def each(change: Callable[[list[str]], Any]) -> list[dict[str, Any]]:
    return [{name: change(cell) for name, cell in row.items()} for row in ROWS]


def of_arrow() -> pd.DataFrame:
    kinds = dict.fromkeys(ROWS[0], pd.ArrowDtype(pyarrow.list_(pyarrow.string())))
    return pd.DataFrame(ROWS).astype(kinds)


ROWS_OF = {
    "list": lambda: ROWS,
    "tuples": lambda: each(tuple),
    "arrays": lambda: each(np.array),
    "objects": lambda: each(lambda cell: np.array(cell, object)),
    "scalars": lambda: each(lambda cell: [np.str_(item) for item in cell]),
    "frame": lambda: pd.DataFrame(ROWS),
    "frame of arrays": lambda: pd.DataFrame(each(np.array)),
    "frame of arrow": of_arrow,
    "table": lambda: pyarrow.Table.from_pylist(ROWS),
    "dataset": lambda: Dataset.from_list(ROWS),
    "classes": lambda: Dataset.from_list(NUMBERED, features=FEATURES),
    "classes by numpy": lambda: Dataset.from_list(NUMBERED, features=FEATURES).with_format("numpy"),
    "table of classes": lambda: Dataset.from_list(NUMBERED, features=FEATURES).data.table,
}


@pytest.mark.parametrize("kind", ROWS_OF)
def test_words_and_tags_are_the_same_from_whatever_holds_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rows.jsonl"
    assert write_rows(ROWS_OF[kind](), path, "train", columns=("tokens", "tags")) == len(ROWS)
    assert [row.values for row in Files(FilesConfig()).rows(str(path))] == ROWS
