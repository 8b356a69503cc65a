from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.errors import PluginError, RunError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_examples_come_back_as_they_went_in(tmp_path: Path) -> None:
    examples: list[dict[str, Any]] = [
        {"input_ids": np.array([1, 2, 3], np.int32), "label": 4, "weight": np.float64(0.1)},
        {"input_ids": np.array([], np.int32), "label": -1, "weight": np.float64(np.inf)},
        {"input_ids": np.array([7], np.int32), "label": 0, "weight": np.float64(2)},
    ]
    with StoreWriter(tmp_path / "store") as writer:
        for number, example in enumerate(examples):
            writer.append(example, f"row {number}", [(len(example["input_ids"]),)])
    store = TokenStore.open(tmp_path / "store")
    assert len(store) == 3
    assert store.lengths.tolist() == [3, 0, 1]
    for index, example in enumerate(examples):
        found = store[index]
        assert found.keys() == example.keys()
        for key, value in example.items():
            np.testing.assert_array_equal(found[key], value)
            assert found[key].dtype == np.asarray(value).dtype
        assert store.address(index) == f"row {index}"


def test_addresses_follow_the_location_and_others_stay(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", location="data/train.csv") as writer:
        writer.append({"input_ids": np.zeros(1)}, "data/train.csv:1042", [(1,)])
        writer.append({"input_ids": np.zeros(1)}, "train row 7 (index 'ü:1')", [(1,)])
    store = TokenStore.open(tmp_path / "store", location="elsewhere.csv")
    assert store.address(0) == "elsewhere.csv:1042"
    assert store.address(1) == "train row 7 (index 'ü:1')"


def test_a_store_travels_by_its_path(make_store: Callable[[list[int]], TokenStore]) -> None:
    store = make_store([3] * 10_000)
    packed = pickle.dumps(store)
    assert len(packed) < 1000
    assert pickle.loads(packed).address(5) == store.address(5) == "train.csv:7"


def test_an_empty_store_opens(make_store: Callable[[list[int]], TokenStore]) -> None:
    assert len(make_store([])) == len(make_store([]).lengths) == 0


def test_a_damaged_store_is_named(make_store: Callable[[list[int]], TokenStore]) -> None:
    path = make_store([3, 4]).path
    with (path / "input_ids.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match=r"input_ids.bin: damaged: 29 bytes instead of 28"):
        TokenStore.open(path)
    (path / "input_ids.bin").unlink()
    with pytest.raises(RunError, match="not a whole token store"):
        TokenStore.open(path)
    (path / "meta.json").write_text('{"form')
    with pytest.raises(RunError, match="not a whole token store"):
        TokenStore.open(path)


def write(path: Path, *examples: dict[str, Any], then: type[Exception] | None = None) -> None:
    with StoreWriter(path) as writer:
        for number, example in enumerate(examples):
            writer.append(example, f"row {number}", [(1,)])
        if then is not None:
            raise then


def test_a_store_that_was_not_finished_is_none(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "store", {"input_ids": np.zeros(1)}, then=ZeroDivisionError)
    with pytest.raises(RunError, match="not a whole token store"):
        TokenStore.open(tmp_path / "store")


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"input_ids": np.zeros(1, np.int64)}, "keys input_ids, but input_ids, label"),
        ({"input_ids": np.zeros(1, np.int32), "label": 1}, "1-D int32, but 1-D int64"),
        ({"input_ids": np.zeros(1, np.int64), "label": np.zeros(1, int)}, "1-D int64, but 0-D"),
    ],
)
def test_rows_that_differ_in_shape_are_the_tasks_fault(
    tmp_path: Path, example: dict[str, Any], message: str
) -> None:
    first = {"input_ids": np.zeros(2, np.int64), "label": 0}
    with pytest.raises(PluginError, match=f"row 1: the task gave .*{message}"):
        write(tmp_path / "store", first, example)


def test_a_row_among_many_is_named_as_the_tasks_fault(tmp_path: Path) -> None:
    good: dict[str, Any] = {"input_ids": np.zeros(2, np.int64)}
    bad: dict[str, Any] = {"input_ids": np.zeros(2, np.int32)}
    with pytest.raises(PluginError, match="^row 1203: the task gave .*1-D int32, but 1-D int64"):
        write(tmp_path / "store", *[good] * 1203, bad, *[good] * 700)
    assert not (tmp_path / "store" / "meta.json").exists()


def test_the_files_hold_values_one_after_the_other_and_where_rows_end(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", location="a.csv") as writer:
        for line in range(2, 1302):
            ids = np.arange(line % 4, dtype=np.int32)
            writer.append(
                {"input_ids": ids, "label": np.int64(line)}, f"a.csv:{line}", [(line % 4,)]
            )
    lengths = [line % 4 for line in range(2, 1302)]
    offsets = [sum(lengths[:count]) for count in range(1301)]
    suffixes = [f":{line}" for line in range(2, 1302)]
    ends = [sum(map(len, suffixes[:count])) for count in range(1301)]
    ids = [number for length in lengths for number in range(length)]
    assert np.fromfile(tmp_path / "store/input_ids.bin", "<i4").tolist() == ids
    assert np.fromfile(tmp_path / "store/input_ids.offsets.bin", "<i8").tolist() == offsets
    assert np.fromfile(tmp_path / "store/label.bin", "<i8").tolist() == list(range(2, 1302))
    assert np.fromfile(tmp_path / "store/@lengths.bin", "<i4").tolist() == lengths
    assert (tmp_path / "store/@addresses.bin").read_text() == "".join(suffixes)
    assert np.fromfile(tmp_path / "store/@addresses.offsets.bin", "<i8").tolist() == ends


def test_lengths_of_rows_and_parts_are_added_up_and_padded_apart(tmp_path: Path) -> None:
    lengths = [[(3, 9)], [(5, 1), (2, 2)], [(1, 1), (1, 1), (8, 2)]]
    with StoreWriter(tmp_path / "store") as writer:
        for number, rows in enumerate(lengths):
            writer.append({"label": number}, f"row {number}", rows)
    store = TokenStore.open(tmp_path / "store")
    assert store.lengths.tolist() == [12, 10, 14]
    assert store.rows is not None
    assert store.rows.tolist() == [1, 2, 3]
    assert store.positions(np.array([0])) == 3 + 9
    assert store.positions(np.array([0, 1])) == 3 * (5 + 9)
    assert store.positions(np.array([2, 1])) == 5 * (8 + 2)
