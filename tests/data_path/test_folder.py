"""The source `folder`: `<label>/*.txt`, in an order that no file system decides."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

import nlpkit
from nlpkit.errors import DataError
from nlpkit_data.config import FolderConfig
from nlpkit_data.folder import Folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two labels, as IMDB has them, and what may lie there too."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train" / "pos" / "10_9.txt", "wonderful\n")
    write(tmp_path / "train" / "pos" / "0_8.txt", "\ufeffgreat,\r\nreally\r\n\r\n")
    write(tmp_path / "train" / "neg" / "2_1.TXT", "bad")
    for name in (".hidden.txt", "pos/.note.txt", "pos/scores.feat", ".git/x.txt", "README.md"):
        write(tmp_path / "train" / name, "no row")
    return tmp_path / "train"


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def source(**options: Any) -> Folder:
    return Folder(FolderConfig(**options))


def error(location: str = "train", **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(source(**options).rows(location))
    return str(caught.value)


def test_texts_come_by_label_and_name_without_what_is_hidden(top: Path) -> None:
    rows = [(row.address, row.values) for row in source().rows("train")]  # type: ignore[union-attr]
    assert rows == [
        ("train/neg/2_1.TXT", {"text": "bad", "label": "neg"}),
        ("train/pos/0_8.txt", {"text": "great,\r\nreally", "label": "pos"}),
        ("train/pos/10_9.txt", {"text": "wonderful", "label": "pos"}),
    ]
    assert source().default("train") is None


def test_the_order_is_not_the_file_systems(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [row.address for row in source().rows("train")]
    fingerprint = source().fingerprint("train")
    iterdir = type(top).iterdir
    monkeypatch.setattr(type(top), "iterdir", lambda path: reversed(list(iterdir(path))))
    assert [row.address for row in source().rows("train")] == before
    assert source().fingerprint("train") == fingerprint


def test_the_fingerprint_is_of_labels_names_and_contents_and_not_of_the_place(top: Path) -> None:
    seen = {source().fingerprint("train")}
    top.rename(top.with_name("moved"))
    top = top.with_name("moved")
    (top / "pos" / "10_9.txt").touch()
    write(top / ".hidden.txt", "another")
    write(top / "pos" / "scores.feat", "another")
    assert source().fingerprint("moved") in seen
    (top / "pos" / "10_9.txt").rename(top / "pos" / "10_8.txt")
    seen.add(source().fingerprint("moved"))
    (top / "neg").rename(top / "negative")
    seen.add(source().fingerprint("moved"))
    write(top / "pos" / "10_8.txt", "wonderful")
    seen.add(source().fingerprint("moved"))
    assert len(seen) == 4


def test_labels_may_be_any_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "数据" / "好 评" / "一.txt", "很好".encode("gb18030"))
    (row,) = source(encoding="gb18030").rows("数据")
    assert not isinstance(row, DataError)
    assert (row.address, row.values) == ("数据/好 评/一.txt", {"text": "很好", "label": "好 评"})


def test_named_labels_are_the_only_ones_that_are_looked_at(top: Path) -> None:
    write(top / "unsup" / "0_0.txt", "who knows")
    write(top / "urls_pos.txt", "http://…")
    assert error().startswith("train/urls_pos.txt: is in no label's folder")
    assert [row.address for row in source(labels=("pos", "neg")).rows("train")] == [
        "train/neg/2_1.TXT",
        "train/pos/0_8.txt",
        "train/pos/10_9.txt",
    ]
    assert error(labels=("pos", "negs", "neg")) == (
        'train: has no folder "negs", which data.labels names; did you mean "neg"?'
    )


def test_a_file_that_is_no_text_is_a_bad_row_with_its_line(top: Path) -> None:
    write(top / "neg" / "0.txt", b"caf\xc3\xa9\ncaf\xe9\n")
    write(top / "neg" / "1.txt", b"a\0b")
    rows = list(source().rows("train"))
    assert [str(row) for row in rows if isinstance(row, DataError)] == [
        "train/neg/0.txt:2: byte 0xe9 at offset 9 of the file is not UTF-8 "
        "(save the file as UTF-8, or set data.encoding to what it is)",
        "train/neg/1.txt: holds a NUL character (is it text?)",
    ]
    assert len(rows) == 5


def test_a_file_that_is_too_large_to_be_a_text_is_a_bad_row(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlpkit_data.folder._LARGEST", 12)
    found = [str(each) for each in source().rows("train") if isinstance(each, DataError)]
    assert found == ["train/pos/0_8.txt: has more than 12 bytes (is it text?)"]


def test_a_folder_of_another_shape_is_an_error(top: Path) -> None:
    assert error("trian") == 'trian: there is no such folder; did you mean "train"?'
    assert (
        error("train/README.md") == "train/README.md: is no folder (data.name: files reads files)"
    )
    assert error("train/pos").startswith("train/pos: has no folders (texts are .txt files in")
    assert error("s3://bucket/train").startswith("s3://bucket/train: is no folder of this machine")
    (top.parent / "empty").mkdir()
    assert error("empty").startswith("empty: is an empty folder")
    write(top.parent / "imdb" / "train" / "pos" / "0.txt", "x")
    assert error("imdb") == (
        'imdb/train: has a folder, "pos", where texts should be '
        "(texts are .txt files in folders named after their labels; is imdb/train the location?)"
    )
    (top / "none").mkdir()
    assert error().startswith("train/none: has no .txt files (remove it, or name the folders")


def test_names_that_are_not_utf_8_are_errors(top: Path) -> None:
    try:
        os.mkdir(os.fsencode(top) + b"/caf\xe9")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert error() == r"train/caf\udce9: the name is not UTF-8 (rename it)"


def test_a_run_trains_quarantines_and_evaluates_on_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for number in range(12):
            write(tmp_path / "评论" / split / "好" / f"{number}.txt", f"很好，很满意{number}")
            write(tmp_path / "评论" / split / "差" / f"{number}.txt", f"太差了，不要买{number}")
    write(tmp_path / "评论" / "train" / "差" / "x.txt", b"\xff")
    config = {
        "name": "reviews",
        "data": {
            "name": "folder",
            "train": "评论/train",
            "test": "评论/test",
            "on_bad_rows": "quarantine",
        },
        "tokenizer": "char",
        "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2},
        "train": {"epochs": 1},
        "loader": {"workers": 0},
        "observers": [],
    }
    run = nlpkit.train(config, out="run")
    assert run.result["samples"] == {"validation": 2, "test": 24}
    (line,) = (tmp_path / "run" / "rejected.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["address"] == "评论/train/差/x.txt:1"
    assert nlpkit.evaluate("run", "评论/test")["accuracy"] == run.metrics["test"]["accuracy"]
    assert set(nlpkit.load("run").predict(["好"])[0].scores) == {"好", "差"}
