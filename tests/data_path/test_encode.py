from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from nlpkit.cli.render import Terminal
from nlpkit.contracts import Codec, Cut, Part, Row, Task, TextInput, Vocabulary
from nlpkit.data import encode, store
from nlpkit.data.encode import Encoder
from nlpkit.data.rows import BadRows
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.errors import DataError
from nlpkit_tasks.sequence.codec import SequenceCodec
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tokenizers import Encoding

WORDS = [f"word{number}" for number in range(50)]
LABELS = ["a", "b", "c"]
SCHEMA = {
    "labels": LABELS,
    "counts": dict.fromkeys(LABELS, 9),
    "weights": dict.fromkeys("abc", 0.5),
}
VOCABULARY = Vocabulary(size=len(WORDS), max_length=20)
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


def task() -> SequenceTask:
    return SequenceTask(SequenceConfig(text="text", label="label"))


def write(
    folder: Path, *, task: Task, tokenizer: Any, codec: Codec | None = None
) -> tuple[int, BadRows]:
    bad = BadRows("skip")
    encoder = Encoder(task, codec or task.codec(SCHEMA, VOCABULARY), tokenizer)
    with StoreWriter(folder, location="rows.csv") as writer, Terminal().bar("", 0, "") as bar:
        truncated = encoder.write(ROWS, "train", writer, bad, bar)
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


@pytest.fixture
def _unfitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer of a test is taken as it is, not a copy of it."""
    monkeypatch.setattr(encode, "fitted", lambda tokenizer, *_: tokenizer)


class Recorder:
    """A tokenizer that remembers what it is given."""

    def __init__(self, during: Callable[[int], None] = lambda _: None) -> None:
        self.batches: list[list[str]] = []
        self._during, self._tokenizer = during, splitter()

    def encode_batch_fast(self, texts: list[str], **options: bool) -> Sequence[Encoding]:
        self.batches.append(texts)
        self._during(len(self.batches))
        return self._tokenizer.encode_batch_fast(texts, **options)


@pytest.mark.usefixtures("_unfitted")
def test_long_texts_come_in_small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_CHARACTERS", 500)
    write(tmp_path / "store", task=task(), tokenizer=(recorder := Recorder()))
    longest = max(map(len, TEXTS))
    sizes = [sum(map(len, texts)) for texts in recorder.batches]
    assert sum(sizes) == sum(map(len, TEXTS))
    assert len(sizes) > 5
    assert all(500 < size <= 500 + longest for size in sizes[:-1])


@pytest.mark.usefixtures("_unfitted")
@pytest.mark.parametrize(("limit", "size"), [("_CHUNK", 10), ("_CHARACTERS", 300)])
def test_the_next_chunk_is_tokenized_while_one_is_written(
    limit: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[bool] = []
    tokenizing, writing = Event(), Event()

    def during(batch: int) -> None:
        if batch == 2:
            tokenizing.set()
            waited.append(writing.wait(5))

    class Slow(SequenceCodec):
        def encode(self, *given: Any, **more: Any) -> Any:
            if not writing.is_set():
                waited.append(tokenizing.wait(5))
                writing.set()
            return super().encode(*given, **more)

    monkeypatch.setattr(encode, limit, size)
    slow = Slow(task(), SCHEMA, VOCABULARY)
    write(tmp_path / "store", task=task(), codec=slow, tokenizer=Recorder(during))
    assert waited == [True, True]


@pytest.mark.usefixtures("_unfitted")
def test_what_a_tokenizer_fails_on_is_a_bad_row_that_says_why(tmp_path: Path) -> None:
    recorder = Recorder()

    def during(batch: int) -> None:
        if TEXTS[1] in recorder.batches[-1]:
            raise ZeroDivisionError

    recorder._during = during
    _, bad = write(tmp_path / "store", task=task(), tokenizer=recorder)
    problems = [each["problem"] for each in bad.summary()]
    wanted = "rows.csv:3: is no text for the tokenizer, which fails: ZeroDivisionError ("
    assert problems[0].startswith(wanted)
    lines = [row.address for row in ROWS if row.values["label"] == "-"]
    assert bad.count == 1 + len(lines)
    assert len(TokenStore.open(tmp_path / "store")) == len(ROWS) - bad.count


def test_tokens_of_pairs_know_their_text_without_a_template_too(tmp_path: Path) -> None:
    pairs = SequenceTask(SequenceConfig(text=["text", "label"], label="label"))
    write(tmp_path / "store", task=pairs, tokenizer=(tokenizer := splitter()))
    types = [example["token_type_ids"].tolist() for example in TokenStore.open(tmp_path / "store")]
    kept = [pairs.texts(row, targets=True)["text"] for row in ROWS if row.values["label"] > "-"]
    assert types == [tokenizer.encode(*text).type_ids for text in kept]
    assert all(sum(each) for each in types)


class Given(Task):
    """Texts as a test gives them, by part."""

    def __init__(self, given: Callable[[Row], Mapping[str, TextInput]]) -> None:
        self.given = given

    def texts(self, row: Row, *, targets: bool) -> Mapping[str, TextInput]:
        return {name: text for name, text in self.given(row).items() if targets or name != "target"}


class Ids(Codec):
    """Keeps what each part came to, and stores the first one's ids."""

    def __init__(self, **parts: Part) -> None:
        super().__init__({}, VOCABULARY)
        self.parts, self.found = parts, list[Any]()

    def encode(self, row: Row, encodings: Mapping[str, Any], use: str) -> dict[str, Any]:
        self.found.append(encodings)
        return {"input_ids": np.array(next(iter(encodings.values())).ids, np.int32)}


@pytest.mark.parametrize("needs", ["ids", "words"])
def test_a_task_is_given_tokens_and_their_places_unless_it_takes_ids_alone(
    needs: Literal["ids", "words"], tmp_path: Path
) -> None:
    texts, codec = Given(lambda row: {"text": row.values["text"]}), Ids(text=Part(needs=needs))
    write(tmp_path / "store", task=texts, codec=codec, tokenizer=splitter())
    found = [(each["text"].tokens, each["text"].offsets) for each in codec.found]
    whole = [(each.tokens, each.offsets) for each in splitter().encode_batch(TEXTS)]
    assert (found == whole) is (needs == "words")
    ids = [example["input_ids"].tolist() for example in TokenStore.open(tmp_path / "store")]
    assert ids == [each.ids for each in splitter().encode_batch(TEXTS)]


def test_each_part_is_cut_as_it_says_and_special_tokens_stand_where_it_wants_them() -> None:
    tokenizer = splitter()
    template = {"single": "word0 $A word0", "special_tokens": [("word0", 0)]}
    tokenizer.post_processor = TemplateProcessing(**template)
    codec = Ids(
        source=Part(max_length=4, long=Cut(keep="end")),
        target=Part(max_length=3, special=False, needs="ids"),
    )
    words = ["word1", "word2", "word3"]
    given = Given(lambda row: {"source": words, "target": " ".join([*words, "word4"])})
    [each] = Encoder(given, codec, tokenizer).encoded(ROWS[:1], "train")
    assert {name: encoding.ids for name, encoding in each.encodings.items()} == {
        "source": [0, 2, 3, 0],
        "target": [1, 2, 3],
    }
    assert each.cut
    [each] = Encoder(given, codec, tokenizer, whole=True).encoded(ROWS[:1], "evaluate")
    assert [len(encoding.ids) for encoding in each.encodings.values()] == [5, 4]
    assert not each.cut
    [each] = Encoder(given, codec, tokenizer).encoded(ROWS[:1], "predict")
    assert each.encodings.keys() == each.texts.keys() == {"source"}


def test_a_row_that_the_task_refuses_keeps_its_place() -> None:
    def given(row: Row) -> Mapping[str, TextInput]:
        if row.values["label"] == "-":
            raise DataError(row.address, problem="is none")
        return {"text": row.values["text"]}

    encoder = Encoder(Given(given), Ids(text=Part()), splitter())
    found = list(encoder.encoded(ROWS, "train"))
    assert [each.row for each in found] == ROWS
    broken = [isinstance(each.example, DataError) for each in found]
    assert broken == [row.values["label"] == "-" for row in ROWS]
