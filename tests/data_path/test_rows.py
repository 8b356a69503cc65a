from __future__ import annotations

import datetime
import json
import tracemalloc
from collections import Counter
from decimal import Decimal
from itertools import repeat
from typing import TYPE_CHECKING, Any
from uuid import UUID

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpkit.contracts import Row
from nlpkit.data.rows import BadRows, Rows, scan, split_off, write_rows
from nlpkit.errors import DataError, InputError
from nlpkit_data.config import FilesConfig
from nlpkit_data.files import Files
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = Files(FilesConfig())


def split(
    strata: list[int], fraction: float, mask: list[bool] | None = None, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.array(mask if mask is not None else [True] * len(strata), bool)
    rows = Rows(SOURCE, "", chosen)
    train, validation = split_off(rows, np.array(strata, np.int64), fraction=fraction, seed=seed)
    return train.mask, validation.mask


@given(
    strata=st.lists(st.integers(0, 6), min_size=1, max_size=200),
    fraction=st.floats(0.01, 0.99),
    data=st.data(),
)
def test_a_split_is_whole_in_proportion_and_leaves_a_row_to_every_stratum(
    strata: list[int], fraction: float, data: st.DataObject
) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=len(strata), max_size=len(strata)))
    train, validation = split(strata, fraction, mask)
    assert not np.any(train & validation)
    assert (train | validation).tolist() == mask
    for stratum in set(strata):
        members = (np.array(strata) == stratum) & np.array(mask)
        size, taken = int(members.sum()), int((members & validation).sum())
        assert taken <= max(0, size - 1)
        assert fraction * size - 1 <= taken < fraction * size + 1 or taken == size - 1


def test_a_split_takes_the_fraction_to_the_row() -> None:
    _, validation = split([number % 77 for number in range(10_003)], 0.1)
    assert validation.sum() == 1000


def test_a_split_is_the_same_on_every_machine_and_another_for_another_seed() -> None:
    strata = [number % 3 for number in range(30)]
    assert np.flatnonzero(split(strata, 0.2)[1]).tolist() == [10, 12, 17, 23, 24, 25]
    assert np.flatnonzero(split(strata, 0.2, seed=2)[1]).tolist() != [10, 12, 17, 23, 24, 25]


def test_dropping_a_row_leaves_the_others_where_they_were_but_for_one() -> None:
    strata = [0] * 200
    _, before = split(strata, 0.1)
    mask = [True] * 200
    mask[5] = False
    _, after = split(strata, 0.1, mask)
    assert (before != after).sum() <= 2


def test_alike_problems_are_counted_and_the_first_is_raised() -> None:
    bad = BadRows("error")
    for line in range(2, 19):
        problem = "is not one of the 3 labels"
        error = DataError(
            f"a.csv:{line}",
            column="label",
            value=f"postive{line}",
            problem=problem,
            suggestion="positive",
        )
        bad.add(error)
    message = (
        'a.csv:2: column "label": "postive2" is not one of the 3 labels; did you mean "positive"? '
        "(17 such rows; data.on_bad_rows: skip drops them)"
    )
    with pytest.raises(DataError) as caught:
        bad.check(good=5)
    assert str(caught.value) == message
    bad.add(DataError("a.csv:99", problem="is not JSON", remedy="quote it"))
    with pytest.raises(DataError, match=r"17 such rows, 1 with other problems; data.on_bad"):
        bad.check(good=5)
    with pytest.raises(DataError, match="1 with other problems; no row is good"):
        bad.check(good=0)


def test_other_policies_raise_nothing(tmp_path: Path) -> None:
    for policy in ("skip", "quarantine"):
        bad = BadRows(policy)  # type: ignore[arg-type]
        bad.add(DataError("a.csv:1", problem="is odd"))
        bad.check(good=0)
        assert bad.count == 1


def test_many_kinds_of_problems_take_little_memory() -> None:
    bad = BadRows("skip")
    for line in range(1000):
        bad.add(DataError(f"a.csv:{line}", problem=f"is odd in way {line}"))
    assert bad.count == 1000
    assert len(bad.summary()) == 100


def written(rows: Any, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    path = folder / "train.jsonl"
    assert write_rows(rows, path, "train") == len(rows)
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(address, values) for address, values in map(json.loads, lines)]


def test_rows_in_memory_become_json_lines_with_addresses(tmp_path: Path) -> None:
    rows = [
        {"text": "é", "n": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True)},
        {"text": None, "l": ("a", np.str_("b")), "m": {1: np.nan}, "a": np.array([1, 2])},
        {"d": datetime.date(2026, 1, 2), "u": UUID(int=7), "e": Decimal("1.50")},
        {"d": np.datetime64("2026-01-02", "ns"), "u": np.datetime64("NaT"), "e": Decimal("NaN")},
    ]
    assert written(rows, tmp_path) == [
        ("train row 0", {"text": "é", "n": 3, "f": 0.5, "b": True}),
        ("train row 1", {"text": None, "l": ["a", "b"], "m": {"1": None}, "a": [1, 2]}),
        ("train row 2", {"d": "2026-01-02", "u": str(UUID(int=7)), "e": 1.5}),
        ("train row 3", {"d": "2026-01-02T00:00:00.000000000", "u": None, "e": None}),
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.0", 1), ("12345678901234567890", 12345678901234567890), ("-0.1", -0.1), ("sNaN", None)],
)
def test_a_decimal_is_a_number(tmp_path: Path, text: str, number: float | None) -> None:
    [(_, values)] = written([{"n": Decimal(text)}], tmp_path)
    assert (values["n"], type(values["n"])) == (number, type(number))


def test_a_decimal_without_end_is_no_number(tmp_path: Path) -> None:
    for text in ("1e400", "-Infinity"):
        write_rows([{"text": "x", "label": Decimal(text)}], tmp_path / "train.jsonl", "train")
        [row] = SOURCE.rows(str(tmp_path / "train.jsonl"))
        assert not isinstance(row, DataError)
        with pytest.raises(DataError, match="the number is missing"):
            SequenceTask(SequenceConfig(target="regression")).stratum(row)


def test_sets_are_sorted_lists(tmp_path: Path) -> None:
    rows = [{"label": {"c", "a", "b"}}, {"label": frozenset({3, 1})}]
    assert [values for _, values in written(rows, tmp_path)] == [
        {"label": ["a", "b", "c"]},
        {"label": [1, 3]},
    ]


@pytest.mark.parametrize(
    ("value", "kind"), [(b"hi", "bytes"), (object(), "object"), ([{b"x"}], "bytes")]
)
def test_values_that_mean_nothing_are_refused(tmp_path: Path, value: Any, kind: str) -> None:
    with pytest.raises(DataError) as caught:
        write_rows([{"text": "x"}, {"text": value}], tmp_path / "train.jsonl", "train")
    assert str(caught.value) == (
        f'train row 1: column "text": is {kind}; give text, a number, a date, or a list of them'
    )


ODD = {
    "bytes": b"x",
    "interval": pd.Interval(0, 1),
    "period": pd.Period("2026-03"),
    "tensor": torch.zeros(2, 2),
    "object": object(),
}


@pytest.mark.parametrize("kind", [list, pd.DataFrame])
def test_only_the_columns_that_are_named_are_judged_and_written(tmp_path: Path, kind: Any) -> None:
    rows = kind([{"text": "x", 7: "y", **ODD}, {"text": "z", 7: None, **ODD}])
    path = tmp_path / "train.jsonl"
    assert write_rows(rows, path, "train", columns=["text", "7"]) == 2
    lines = map(json.loads, path.read_text().splitlines())
    assert [values for _, values in lines] == [{"text": "x", "7": "y"}, {"text": "z", "7": None}]
    with pytest.raises(DataError, match='train row 0: column "bytes": is bytes'):
        write_rows(rows, path, "train", columns=["text", "bytes"])


def test_where_a_column_is_missing_the_names_of_the_others_are_written(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    write_rows([{"txt": "x", "label": "y", **ODD}], path, "train", columns=["text", "label"])
    ((_, values),) = map(json.loads, path.read_text().splitlines())
    assert values == {"txt": None, "label": "y", **dict.fromkeys(ODD)}


def test_pictures_in_a_dataset_are_not_decoded_for_nothing(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([{"text": "x", "picture": {"bytes": b"?", "path": None}}])
    rows = rows.cast_column("picture", datasets.Image())
    write_rows(rows, tmp_path / "train.jsonl", "train", columns=["text"])
    assert (tmp_path / "train.jsonl").read_text() == '["train row 0", {"text": "x"}]\n'


def test_a_column_twice_that_nobody_reads_is_no_matter(tmp_path: Path) -> None:
    frame = pd.DataFrame([["x", "a", "b"]], columns=["text", "other", "other"])
    assert write_rows(frame, tmp_path / "train.jsonl", "train", columns=["text"]) == 1


def test_a_data_frame_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame([["x", "a", "b"]], columns=["text", "label", "label"])
    with pytest.raises(DataError, match='train rows: column "label": stands twice'):
        write_rows(frame, tmp_path / "train.jsonl", "train")


def test_a_data_frames_index_is_in_the_addresses(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", None, "c"],
            "n": [1.0, np.nan, 3.0],
            "when": [pd.Timestamp("2026-01-02"), pd.NaT, pd.NaT],
            "whole": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    rows = written(frame, tmp_path)
    assert rows[0][1]["n"] == 1.0
    assert rows[1] == ("train row 1", {"text": None, "n": None, "when": None, "whole": None})
    named = written(frame.set_index(pd.Index(["T-7", "T-8", "T-9"])), tmp_path)
    assert named[2][0] == "train row 2 (index 'T-9')"
    shuffled = written(frame.iloc[[2, 1, 0]], tmp_path)
    assert [address for address, _ in shuffled] == [
        "train row 0 (index 2)",
        "train row 1",
        "train row 2 (index 0)",
    ]


def test_rows_in_memory_are_read_back_as_rows_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    write_rows([{"text": "half \ud800"}, {"text": "line\u2028break"}], path, "train")
    broken, row = SOURCE.rows(str(path))
    assert str(broken).startswith("train row 0: holds half a surrogate pair")
    assert not isinstance(row, DataError)
    assert (row.address, row.values) == ("train row 1", {"text": "line\u2028break"})


def test_a_table_of_arrow_and_its_scalars_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    table = pa.table({"text": ["a", "b"], "label": [1, None]})
    scalars = [{"text": pa.scalar("a"), "label": pa.scalar(1)}, {"text": "b", "label": pa.NA}]
    for rows in (table, scalars):
        write_rows(rows, path, "train")
        found = [row.values for row in SOURCE.rows(str(path)) if not isinstance(row, DataError)]
        assert found == [{"text": "a", "label": 1}, {"text": "b", "label": None}]


def test_booleans_of_numpy_are_booleans(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    write_rows([{"label": np.bool_(True), "flags": [np.bool_(False)]}], path, "train")
    (row,) = SOURCE.rows(str(path))
    assert not isinstance(row, DataError)
    assert row.values == {"label": True, "flags": [False]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pa.array(["a"]), "train row 0: is StringScalar, not a mapping"),
        ([("a", "b")], r'train row 0: is tuple, not a mapping .*give rows such as {"text"'),
        ([], "no train rows were given"),
        (["text"], "train row 0: is str, not a mapping"),
        ("train.csv", "train is str; give a list of mappings"),
        ({"text": ["a"]}, "train is dict; give a list of mappings"),
        (7, "train is int; give a list of mappings"),
    ],
)
def test_what_is_no_rows_says_so(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_rows(rows, tmp_path / "train.jsonl", "train")


def test_splits_keep_every_label_of_real_rows(real_data: Path) -> None:
    rows = SOURCE.rows(str(real_data / "banking77" / "train.csv"))
    labels = [row.values["category"] for row in rows if not isinstance(row, DataError)]
    numbers = {label: number for number, label in enumerate(sorted(set(labels)))}
    train, validation = split([numbers[label] for label in labels], 0.1)
    whole, held = Counter(labels), Counter(np.array(labels)[validation].tolist())
    assert len(held) == 77
    assert all(abs(held[label] - 0.1 * whole[label]) < 1 for label in whole)
    assert train.sum() + validation.sum() == len(labels)


class Repeated:
    """A source whose rows take no memory."""

    def rows(self, location: str) -> Iterator[Row | DataError]:
        return repeat(Row({"text": "text", "label": "label"}, "rows.csv:2"), int(location))


def test_a_few_bytes_of_memory_are_kept_of_a_row() -> None:
    count = 10_000
    source: Any = Repeated()
    tracemalloc.start()
    try:
        rows, _ = scan(source, str(count), SequenceTask(SequenceConfig()), BadRows("error"))
        kept, scanning = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        assert sum(1 for _ in rows) == count
        looping = tracemalloc.get_traced_memory()[1] - kept
    finally:
        tracemalloc.stop()
    assert scanning / count < 24
    assert looping / count < 2
