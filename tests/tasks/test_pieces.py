"""Texts of any length, cut and joined: each token of each document is told exactly once."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.contracts import Batch, Part, Pieces
from nlpkit_tasks.clm.config import ClmConfig
from nlpkit_tasks.mlm.config import MlmConfig
from tests.tasks.language import encoder_of, rows_of, samples, tokenizer

if TYPE_CHECKING:
    from nlpkit.data.encode import Encoder

CLS, SEP, MASK = 2, 3, 4
TEXTS = st.lists(st.text("thecasonmd", min_size=1, max_size=40), min_size=1, max_size=12)
LENGTHS = st.integers(3, 20)


def ids(text: str, kind: str = "char") -> list[int]:
    return tokenizer(kind).encode(text, add_special_tokens=False).ids


def collated(encoder: Encoder, rows: list[Any], use: Any, together: int) -> list[Batch]:
    found = [sample for sample, _ in samples(encoder, rows, use)]
    parts = [found[at : at + together] for at in range(0, len(found), together)]
    return [encoder.codec.collate(part, range(len(part))) for part in parts]


@settings(deadline=None, max_examples=150)
@given(
    texts=TEXTS,
    length=LENGTHS,
    pack=st.booleans(),
    use=st.sampled_from(["train", "evaluate"]),
    prompts=st.booleans(),
    together=st.integers(1, 5),
)
def test_each_token_and_each_end_is_told_once_from_the_token_before_it(
    texts, length, pack, use, prompts, together
):
    encoder = encoder_of(ClmConfig(pack=pack, prompt="p" if prompts else None), length, "char")
    before = [text[::-1] * 2 if prompts else "" for text in texts]
    rows = rows_of(texts, p=before)
    told = []
    for batch in collated(encoder, rows, use, together):
        assert batch.inputs["input_ids"].shape[1] <= length
        counted = batch.targets["ids"] != -100
        assert batch.count == counted.sum() > 0
        assert batch.inputs["attention_mask"][counted].all()
        told += zip(
            batch.inputs["input_ids"][counted].tolist(),
            batch.targets["ids"][counted].tolist(),
            strict=True,
        )
    expected = []
    for text, prompt in zip(texts, before, strict=True):
        document = [CLS, *ids(prompt), *ids(text), SEP]
        expected += [*pairwise(document)][len(ids(prompt)) :]
    assert told == expected


@settings(deadline=None, max_examples=100)
@given(texts=TEXTS, length=LENGTHS)
def test_rows_are_filled_in_order_and_what_fits_stays_whole(texts, length):
    encoder = encoder_of(ClmConfig(), length, "char")
    rows = samples(encoder, rows_of(texts), "train")
    sizes = [[size - 1 for size in row["documents"].tolist()] for row, _ in rows]
    assert [sum(each) for each in sizes] == [encoder.codec.lengths(row)[0][0] for row, _ in rows]
    assert all(sum(each) <= length for each in sizes)
    for row, following in pairwise(sizes):  # greedy: the next piece had no room
        assert sum(row) + following[0] > length
    pieces = [size for each in sizes for size in each]
    whole = [len(text) + 1 for text in texts]
    assert pieces == [
        size
        for total in whole
        for size in [length] * (total // length) + [total % length] * (total % length > 0)
    ]


def test_documents_of_a_row_are_numbered_and_counted_from_their_beginning():
    encoder = encoder_of(ClmConfig(), 9, "char")
    (batch,) = collated(encoder, rows_of(["the", "cat", "sat on a"]), "train", 9)
    inputs = {name: array.tolist() for name, array in batch.inputs.items()}
    assert inputs["document_ids"] == [[1, 1, 1, 1, 2, 2, 2, 2, 0], [1] * 9]
    assert inputs["position_ids"] == [[0, 1, 2, 3, 0, 1, 2, 3, 0], [*range(9)]]
    assert inputs["attention_mask"] == [[1] * 8 + [0], [1] * 9]
    (alone,) = collated(encoder, rows_of(["the", "cat"]), "evaluate", 9)
    assert alone.inputs.keys() == {"input_ids", "attention_mask"}


def test_addresses_of_joined_rows_say_from_where_to_where():
    encoder = encoder_of(ClmConfig(), 9, "char")
    found = samples(
        encoder, rows_of(["the cat sat", "on", "a", "mat and then it went home"]), "train"
    )
    assert [address for _, address in found] == [
        "a.txt:1",
        "a.txt:1-3",
        *["a.txt:4"] * 3,
    ]


@pytest.mark.parametrize(
    ("first", "last", "span"),
    [
        ("part-0.txt:9", "part-1.txt:2", "part-0.txt:9 to part-1.txt:2"),
        ("train row 3", "train row 5", "train row 3 to train row 5"),
    ],
)
def test_addresses_of_two_files_are_both_named(first, last, span):
    encoder = encoder_of(ClmConfig(), 9, "char")
    rows = rows_of(["on", "a"])
    rows = [type(rows[0])(row.values, at) for row, at in zip(rows, (first, last), strict=True)]
    assert [address for _, address in samples(encoder, rows, "train")] == [span]


@settings(deadline=None, max_examples=100)
@given(
    texts=TEXTS,
    length=st.integers(4, 20),
    use=st.sampled_from(["train", "evaluate"]),
    together=st.integers(1, 5),
)
def test_no_token_is_lost_or_doubled_and_each_piece_has_its_own_frame(texts, length, use, together):
    encoder = encoder_of(MlmConfig(masked=0.5), length, "char")
    seen = []
    for batch in collated(encoder, rows_of(texts), use, together):
        whole, mask = batch.inputs["input_ids"].copy(), batch.inputs["attention_mask"] > 0
        told = batch.targets["ids"] != -100
        assert batch.count == told.sum()
        row, _ = np.nonzero(told)
        places = batch.inputs["masked"][told]
        assert len({*zip(row.tolist(), places.tolist(), strict=True)}) == told.sum()
        whole[row, places] = batch.targets["ids"][told]
        seen += whole[mask].tolist()
        assert mask.sum(axis=1).max() <= length
    room = length - 2
    expected = []
    for text in texts:
        tokens = ids(text)
        for at in range(0, len(tokens), room):
            expected += [CLS, *tokens[at : at + room], SEP]
    assert seen == expected


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
@pytest.mark.parametrize("options", [ClmConfig(), MlmConfig()])
def test_what_looks_like_a_special_token_in_a_text_is_text(options, kind):
    text = "the [SEP] cat [MASK] sat [CLS]"
    encoder = encoder_of(options, 64, kind)
    (batch,) = collated(encoder, rows_of([text]), "evaluate", 1)
    whole = batch.inputs["input_ids"].copy()
    if isinstance(options, MlmConfig):
        told = batch.targets["ids"][0] != -100
        whole[0, batch.inputs["masked"][0][told]] = batch.targets["ids"][0][told]
    assert not {CLS, SEP, MASK} & set(whole[0, 1:-1].tolist())
    assert tokenizer(kind).encode(text).ids.count(SEP) == 2  # what others would get


def test_a_text_that_a_tokenizer_drops_is_a_bad_row():
    for options in (ClmConfig(), MlmConfig()):
        encoder = encoder_of(options, 9, "wordpiece")
        (found,) = encoder.encoded(rows_of(["\ufffd"]), "train")
        assert str(found.example) == "a.txt:1: holds nothing that the tokenizer keeps"


@pytest.mark.parametrize(("keep", "kept"), [("start", "the cat"), ("end", " a mate")])
def test_in_prediction_an_end_is_kept(keep, kept):
    encoder = encoder_of(ClmConfig(), 8, "char")
    encoder.codec.parts = {"text": Part(max_length=7, long=Pieces(keep=keep), special=False)}
    encoder = type(encoder)(encoder.task, encoder.codec, tokenizer("char"))
    (found,) = encoder.encoded(rows_of(["the cat sat on a mate"]), "predict")
    assert found.cut
    assert tokenizer("char").decode(found.example["input_ids"].tolist()) == kept
