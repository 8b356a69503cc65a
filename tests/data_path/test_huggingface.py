"""The source `huggingface`: folders of the library datasets, without a network."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    List,
    Value,
    disable_progress_bars,
)

from nlpkit.config.resolve import build
from nlpkit.config.schema import Component
from nlpkit.contracts import Row
from nlpkit.errors import DataError, PluginError
from nlpkit.plugin.host import Host
from nlpkit_data.config import HuggingfaceConfig
from nlpkit_data.huggingface import Huggingface

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = Features(
    {
        "文本": Value("string"),
        "label": ClassLabel(names=["差评", "好评"]),
        "topics": List(ClassLabel(names=["a", "b"])),
    }
)
VALUES = {"文本": ["x", "y", "z"], "label": [1, 0, -1], "topics": [[1, 0], [], [0]]}
NAMED = [
    {"文本": "x", "label": "好评", "topics": ["b", "a"]},
    {"文本": "y", "label": "差评", "topics": []},
    {"文本": "z", "label": None, "topics": ["a"]},
]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    disable_progress_bars()


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_dict(VALUES, features=FEATURES)


def source(**options: Any) -> Huggingface:
    return Huggingface(HuggingfaceConfig(**options))


def read(location: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    rows = source(**options).rows(location)
    return [(row.address, dict(row.values)) for row in rows if not isinstance(row, DataError)]


def error(location: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(source(**options).rows(location))
    return str(caught.value)


def test_what_save_to_disk_wrote_is_read_with_the_names_of_classes(dataset: Dataset) -> None:
    dataset.save_to_disk("one")
    assert read("one") == [(f"one:{number}", NAMED[number - 1]) for number in (1, 2, 3)]
    DatasetDict({"train": dataset, "test": dataset.select([1])}).save_to_disk("two")
    assert read("two#test") == [("two#test:1", NAMED[1])]
    assert read("two/test") == [("two/test:1", NAMED[1])]


def test_what_load_dataset_takes_is_read_and_nothing_is_copied(
    dataset: Dataset, tmp_path: Path
) -> None:
    dataset.to_parquet(tmp_path / "files" / "data" / "train-00000-of-00001.parquet")
    dataset.select([2]).to_parquet(tmp_path / "files" / "data" / "test-00000-of-00001.parquet")
    assert [values for _, values in read("files#train")] == NAMED
    assert read("files#test") == [("files#test:1", NAMED[2])]
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_a_subset_is_chosen_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for name in ("one", "two"):
        (tmp_path / "many" / f"{name}.csv").write_text(f"text,label\n{name},x\n")
    (tmp_path / "many" / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files: one.csv\n"
        "- config_name: two\n  data_files: two.csv\n---\n"
    )
    assert read("many", subset="two") == [("many:1", {"text": "two", "label": "x"})]
    assert "Config name is missing" in error("many")


def test_the_fingerprint_is_of_contents_and_split_and_not_of_the_place(dataset: Dataset) -> None:
    DatasetDict({"train": dataset, "test": dataset}).save_to_disk("one")
    shutil.copytree("one", "two")
    first = source().fingerprint("one#train")
    assert source().fingerprint("two#train") == first
    list(source().rows("two#train"))
    assert source().fingerprint("two#train") == first
    assert source().fingerprint("one#test") != first
    DatasetDict({"train": dataset.select([0]), "test": dataset}).save_to_disk("three")
    assert source().fingerprint("three#train") != first


def test_splits_and_folders_that_are_not_there_are_named(dataset: Dataset, tmp_path: Path) -> None:
    DatasetDict({"train": dataset, "test": dataset}).save_to_disk("imdb")
    assert error("imdb") == "imdb: has the splits train, test (name one: imdb#train)"
    assert error("imdb#tests") == (
        'imdb#tests: has no split "tests"; did you mean "test"? (its splits: train, test)'
    )
    assert error("imbd#train").startswith(
        'imbd#train: there is no such folder; did you mean "imdb"? (hf download NAME'
    )
    with pytest.raises(DataError, match="there is no such folder"):
        source().fingerprint("nothing")
    (tmp_path / "empty").mkdir()
    assert error("empty").startswith("empty: cannot be read as a dataset (")


def test_damage_is_named_with_the_row(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "train.jsonl").write_text('{"text": "x"}\n' * 3 + "{broken\n")
    assert error("lines").startswith("lines: cannot be read as a dataset (")
    dataset.save_to_disk("one")
    (tmp_path / "one" / "data-00000-of-00001.arrow").write_bytes(b"no arrow")
    assert error("one").startswith("one: cannot be read as a dataset (")


def test_a_value_that_is_neither_text_nor_number_is_its_error(dataset: Dataset) -> None:
    dataset.add_column("n", [b"x", b"y", b"z"]).save_to_disk("bytes")
    row = next(iter(source().rows("bytes")))
    assert isinstance(row, Row)
    assert row.values["文本"]
    assert str(row.values["n"]).startswith('bytes:1: column "n": is bytes')


def test_pictures_are_not_decoded(dataset: Dataset) -> None:
    pictures = dataset.add_column("picture", [{"bytes": b"no png", "path": None}] * 3)
    pictures.cast_column("picture", Image()).save_to_disk("pictures")
    rows = list(source().rows("pictures"))
    assert [type(row) for row in rows] == [Row] * 3


def test_the_library_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.delitem(sys.modules, "nlpkit_data.huggingface")
    with pytest.raises(PluginError, match=r"needs datasets, .*: pip install 'nlpkit-sdk\[datasets"):
        build(Component(name="huggingface"), "source", Host.discover())
