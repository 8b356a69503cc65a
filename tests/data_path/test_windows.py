"""Long texts in windows: how they are cut, stored, put into micro-batches, and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from nlpkit.contracts import Batch, Vocabulary, Windows
from nlpkit.data.encode import fitted, windows_of_length
from nlpkit.data.loader import Batching, Loading, TrainingSteps
from nlpkit.data.plan import cut, evaluation_plan, share
from nlpkit.errors import ConfigError
from nlpkit_tasks.sequence.codec import SequenceCodec
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.objective import SequenceObjective
from nlpkit_tasks.sequence.task import SequenceTask

if TYPE_CHECKING:
    from conftest import Shop
    from nlpkit.data.prepare import Prepared

MOST = 32
SIZES = st.integers(1, 12)
WORDS = [0, 1, 5, 12, 14, 15, 25, 60]
"""Words of the texts; with [CLS] and [SEP] the fifth fills one window of 16 tokens."""


@pytest.fixture
def long_texts(shop: Shop) -> Shop:
    """Rows of so many words, each a token of its own, and one that never ends."""
    words = [f"w{number % 10}" for number in range(500)]
    texts = [" ".join(words[:count]) for count in WORDS[1:]]
    lines = [f"{text},{'ab'[at % 2]}" for at, text in enumerate([*texts, " ".join(words)])]
    (shop.folder / "long.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    shop.data = {"train": "long.csv", "validation": None}
    return shop


def prepared(shop: Shop, *overrides: str) -> Prepared:
    return shop.prepare("tokenizer.max_length=16", "tokenizer.vocab_size=60", *overrides)


def codec(target: Any = "class", *, max_length: int = 16) -> SequenceCodec:
    """Takes long texts in windows."""
    schema = {"labels": [] if target == "regression" else ["a", "b"], "counts": {}, "weights": {}}
    task = SequenceTask(SequenceConfig(target=target, long_text="window"))
    return task.codec(schema, Vocabulary(size=60, max_length=max_length))


def test_windows_overlap_and_hold_every_token_in_order(long_texts: Shop) -> None:
    found = prepared(long_texts, "task.long_text=window")
    tokenizer = Tokenizer.from_file(str(found.tokenizer_path))
    assert (tokenizer.truncation["max_length"], tokenizer.truncation["stride"]) == (16, 4)
    tokenizer.no_truncation()
    lines = (long_texts.folder / "long.csv").read_text().splitlines()[1:]
    store = found.stores["train"]
    for place, count in enumerate(WORDS[1:]):
        example = store[place]
        parts = np.split(example["input_ids"], np.cumsum(example["windows"])[:-1])
        assert [len(part) for part in parts[:-1]] == [16] * (len(parts) - 1)
        assert store.rows[place] == len(parts)
        assert store.positions(np.array([place])) == len(parts) * min(count + 2, 16)
        whole, *rest = (part[1:-1].tolist() for part in parts)  # without [CLS] and [SEP]
        for part in rest:
            assert part[:4] == whole[-4:]
            whole += part[4:]
        assert whole == tokenizer.encode(lines[place].split(",")[0]).ids[1:-1]
    assert [int(count) for count in store.rows[:5]] == [1, 1, 1, 1, 2]


def test_a_text_without_end_is_cut_at_the_most_windows_and_counts_as_truncated(
    long_texts: Shop,
) -> None:
    found = prepared(long_texts, "task.long_text=window")
    store, report = found.stores["train"], found.report
    assert len(store[7]["windows"]) == MOST
    assert report["truncated"] == {"train": 1 / 8}
    assert report["windowed"] == {"train": 4 / 8}
    assert report["windows"]["train"] == store.rows.mean()
    assert report["tokens"]["train"] == sum(int(store[at]["windows"].sum()) for at in range(8))


def test_a_task_that_truncates_stores_no_windows(long_texts: Shop) -> None:
    found = prepared(long_texts)
    store = found.stores["train"]
    assert store.rows is None
    assert list(store.lengths) == [3, 7, 14, 16, 16, 16, 16, 16]
    assert [store.positions(np.array([at])) for at in range(8)] == list(store.lengths)
    assert store[0].keys() == {"input_ids", "token_type_ids", "label", "weight"}
    known = {"rows", "tokens", "truncated", "rejected", "problems", "remarks"}
    assert found.report.keys() == known
    assert Tokenizer.from_file(str(found.tokenizer_path)).truncation["stride"] == 0


def test_windows_that_cannot_overlap_are_an_error_with_a_remedy(long_texts: Shop) -> None:
    message = "tokenizer.max_length: windows of 7 tokens cannot overlap; set it to 8 or more"
    with pytest.raises(ConfigError, match=message):
        long_texts.prepare("task.long_text=window", "tokenizer.max_length=7")
    assert long_texts.prepare("task.long_text=window", "tokenizer.max_length=8")


def test_windows_that_special_tokens_fill_are_an_error_with_a_remedy() -> None:
    tokenizer = Tokenizer(WordLevel({"s": 0}, unk_token="s"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="s s s $A s s s", special_tokens=[("s", 0)]
    )
    part = codec().parts["text"]
    message = "windows of 8 tokens cannot overlap: 6 of them are special; set it to 20 or more"
    with pytest.raises(ConfigError, match=message):
        fitted(tokenizer, part, 8)
    assert len(fitted(tokenizer, part, 20).encode("a " * 40).overflowing) > 2


@given(counts=st.lists(SIZES, max_size=60), size=SIZES)
@settings(deadline=None)
def test_a_piece_has_room_for_its_windows_and_no_piece_could_have_one_more(
    counts: list[int], size: int
) -> None:
    windows = np.array(counts, np.int64)
    pieces = cut(np.arange(len(counts)), size, windows)
    assert [index for piece in pieces for index in piece.tolist()] == list(range(len(counts)))
    taken = [windows[piece].sum() for piece in pieces]
    assert all(each <= size or len(piece) == 1 for each, piece in zip(taken, pieces, strict=True))
    for each, following in zip(taken, pieces[1:], strict=False):
        assert each + windows[following[0]] > size


@given(lengths=st.lists(SIZES, max_size=60), size=SIZES)
@settings(deadline=None)
def test_single_windows_are_put_together_as_samples_are(lengths: list[int], size: int) -> None:
    these, ones = np.array(lengths, np.int64), np.ones(len(lengths), np.int64)
    plain = evaluation_plan(these, batch_size=size)
    windows = evaluation_plan(these, batch_size=size, rows=ones)
    assert list(map(list, windows)) == list(map(list, plain))


def test_a_share_without_micro_batches_has_as_many_windows_as_samples() -> None:
    windows = np.array([1, 1, 3, 2, 9, 1])
    parts = share(np.arange(6), windows * 10, rank=0, size=1, micro_batch_size=None, rows=windows)
    assert [part.tolist() for part in parts] == [[0, 1, 5, 3], [2], [4]]


def test_steps_count_the_positions_of_windows(long_texts: Shop) -> None:
    store = prepared(long_texts, "task.long_text=window").stores["train"]
    steps = TrainingSteps(
        store,
        codec(),
        Batching(seed=1, batch_size=8, micro_batch_size=4),
        Loading(),
    )
    (step,) = steps.load(1, 1)
    shapes = [batch.inputs["input_ids"].shape for batch in step.batches]
    assert [rows for rows, _ in shapes] == [4, 2, 3, 6, MOST]
    assert step.positions == sum(rows * tokens for rows, tokens in shapes)
    assert step.tokens == sum(int(each.inputs["attention_mask"].sum()) for each in step.batches)


@given(length=st.integers(3, 200), max_length=st.integers(8, 40))
@settings(deadline=None, max_examples=60)
def test_windows_are_counted_from_a_length_as_the_tokenizer_cuts_them(
    length: int, max_length: int
) -> None:
    tokenizer = _words()
    tokenizer.enable_truncation(max_length, stride=max_length // 4)
    encoding = tokenizer.encode(" ".join(["w"] * (length - 2)))
    windows = 1 + len(encoding.overflowing)
    assert windows_of_length(Windows(), length, special=2, max_length=max_length) == windows


def _words() -> Tokenizer:
    from tokenizers import models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({"w": 0, "[C]": 1, "[S]": 2}, unk_token="w"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[C] $A [S]", special_tokens=[("[C]", 1), ("[S]", 2)]
    )
    return tokenizer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_are_averaged_alike_in_numpy_and_torch(dtype: Any) -> None:
    logits = np.random.default_rng(0).normal(size=(26, 1)).astype(dtype)
    rows = np.array([1, 4, 21])
    expected = [float(part.mean()) for part in np.split(logits.astype(np.float64), [1, 5])]
    batch = Batch(inputs={}, targets={}, count=3.0, rows=rows)
    found = [each.value for each in codec("regression").decode({"logits": logits}, batch)]
    objective = SequenceObjective(SequenceConfig(target="regression"), {})
    averaged = objective.output(torch.from_numpy(logits), {}, torch.from_numpy(rows))
    assert averaged.numpy().dtype == dtype
    assert found == averaged.flatten().tolist()  # a prediction is what the metrics were given
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found[0] == logits[0, 0]
    assert objective.output(averaged, {}, None) is averaged
