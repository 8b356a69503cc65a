from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from nlpkit.cli.render import Terminal
from nlpkit.contracts import Row
from nlpkit.data import encode, store
from nlpkit.data.encode import Encoder
from nlpkit.data.rows import BadRows
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.errors import PluginError
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokenizers import Encoding

WORDS = [f"word{number}" for number in range(50)]
LABELS = ["a", "b", "c"]
SCHEMA = {"labels": LABELS, "weights": dict.fromkeys(LABELS, 0.5)}
TEXTS = [" ".join(WORDS[number % 5 : number + 5]) for number in range(1, 40)]
ROWS = [
    Row({"text": text, "label": "abc-"[number % 4]}, f"rows.csv:{number + 2}")
    for number, text in enumerate(TEXTS)
]


def splitter() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="word0"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_truncation(20)
    return tokenizer


def task() -> Any:
    return SequenceTask(SequenceConfig(text="text", label="label"))


def write(folder: Path, *, task: Any, tokenizer: Any) -> tuple[int, BadRows]:
    bad = BadRows("skip")
    encoder = Encoder(task=task, tokenizer=tokenizer, schema=SCHEMA)
    with StoreWriter(folder, location="rows.csv") as writer, Terminal().bar("", 0, "") as bar:
        truncated = encoder.write(ROWS, writer, bad, bar)
    return truncated, bad


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("chunk", "together"), [(1, 1), (7, 4), (39, 3), (1000, 10)])
def test_a_store_is_the_same_to_the_byte_whatever_the_chunks(
    chunk: int, together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truncated, bad = write(tmp_path / "one", task=task(), tokenizer=splitter())
    monkeypatch.setattr(encode, "_CHUNK", chunk)
    monkeypatch.setattr(store, "_ROWS", together)
    again, bad_again = write(tmp_path / "other", task=task(), tokenizer=splitter())
    assert files(tmp_path / "other") == files(tmp_path / "one")
    assert again == truncated > 0
    assert bad_again.summary() == bad.summary()
    kept = [(row, text) for row, text in zip(ROWS, TEXTS, strict=True) if row.values["label"] > "-"]
    opened = TokenStore.open(tmp_path / "other", location="moved.csv")
    assert len(opened) == len(kept) == len(ROWS) - bad.count
    for index, (row, text) in enumerate(kept):
        assert opened[index]["input_ids"].tolist() == splitter().encode(text).ids
        assert opened[index]["label"] == LABELS.index(row.values["label"])
        assert opened.address(index) == f"moved{row.address.removeprefix('rows')}"


class Recorder:
    """A tokenizer that remembers what it is given."""

    def __init__(self, during: Callable[[int], None] = lambda _: None) -> None:
        self.batches: list[list[str]] = []
        self._during, self._tokenizer = during, splitter()

    def encode_batch_fast(self, texts: list[str], *, is_pretokenized: bool) -> Sequence[Encoding]:
        self.batches.append(texts)
        self._during(len(self.batches))
        return self._tokenizer.encode_batch_fast(texts, is_pretokenized=is_pretokenized)


def test_long_texts_come_in_small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_CHARACTERS", 500)
    write(tmp_path / "store", task=task(), tokenizer=(recorder := Recorder()))
    longest = max(map(len, TEXTS))
    sizes = [sum(map(len, texts)) for texts in recorder.batches]
    assert sum(sizes) == sum(map(len, TEXTS))
    assert len(sizes) > 5
    assert all(500 < size <= 500 + longest for size in sizes[:-1])


def test_the_next_chunk_is_tokenized_while_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[bool] = []
    tokenizing, writing = Event(), Event()

    def during(batch: int) -> None:
        if batch == 2:
            tokenizing.set()
            waited.append(writing.wait(5))

    class Slow(SequenceTask):
        def encode(self, *given: Any, **more: Any) -> Any:
            if not writing.is_set():
                waited.append(tokenizing.wait(5))
                writing.set()
            return super().encode(*given, **more)

    monkeypatch.setattr(encode, "_CHUNK", 10)
    slow = Slow(SequenceConfig(text="text", label="label"))
    write(tmp_path / "store", task=slow, tokenizer=Recorder(during))
    assert waited == [True, True]


def test_what_a_tokenizer_raises_ends_the_writing(tmp_path: Path) -> None:
    def during(batch: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(PluginError, match="the tokenizer fails: ZeroDivisionError"):
        write(tmp_path / "store", task=task(), tokenizer=Recorder(during))
    assert not (tmp_path / "store" / "meta.json").exists()


def test_tokens_of_pairs_know_their_text_without_a_template_too(tmp_path: Path) -> None:
    pairs = SequenceTask(SequenceConfig(text=["text", "label"], label="label"))
    write(tmp_path / "store", task=pairs, tokenizer=(tokenizer := splitter()))
    types = [example["token_type_ids"].tolist() for example in TokenStore.open(tmp_path / "store")]
    kept = [row for row in ROWS if row.values["label"] > "-"]
    assert types == [tokenizer.encode(*pairs.texts(row)).type_ids for row in kept]
    assert all(sum(each) for each in types)


@pytest.mark.parametrize("ids_only", [True, False, None])
def test_a_task_is_given_tokens_and_their_places_unless_it_takes_ids_alone(
    ids_only: bool | None, tmp_path: Path
) -> None:
    found: list[tuple[list[str], list[tuple[int, int]]]] = []

    class Places:
        def texts(self, row: Row) -> str:
            return str(row.values["text"])

        def encode(self, row: Row, encoding: Encoding, schema: Any) -> dict[str, Any]:
            found.append((encoding.tokens, encoding.offsets))
            return {"input_ids": np.array(encoding.ids, np.int32)}

    places = Places()
    if ids_only is not None:
        places.ids_only = ids_only  # type: ignore[attr-defined]
    write(tmp_path / "store", task=places, tokenizer=splitter())
    whole = [(each.tokens, each.offsets) for each in splitter().encode_batch(TEXTS)]
    assert (found == whole) is (not ids_only)
    ids = [example["input_ids"].tolist() for example in TokenStore.open(tmp_path / "store")]
    assert ids == [each.ids for each in splitter().encode_batch(TEXTS)]
