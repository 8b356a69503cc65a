"""What is hidden of a text: how much, what stands there instead, and the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nlpkit.contracts import Codec, Example
from nlpkit.data.plan import mix, sample_seeds
from nlpkit.errors import ConfigError
from nlpkit_tasks.mlm.config import MlmConfig
from nlpkit_tasks.mlm.masking import words_of
from nlpkit_tasks.token.words import found
from tests.tasks.language import encoder_of, rows_of, samples, texts, tokenizer

CLS, SEP, MASK = 2, 3, 4
SPECIAL = {0, 1, 2, 3, 4}


def examples(codec_of: Any, count: int = 40) -> list[Example]:
    return [sample for sample, _ in samples(codec_of, rows_of(texts(count)), "train")]


def seeds(count: int, *, seed: int = 13, epoch: int = 1) -> list[int]:
    return sample_seeds(np.arange(count), seed=seed, epoch=epoch).tolist()


def hidden(codec: Codec, example: Example, seed: int) -> tuple[np.ndarray, ...]:
    """The places, what stands there, and what is to be told."""
    batch = codec.collate([example], [seed])
    told = batch.targets["ids"][0] != -100
    places = batch.inputs["masked"][0][told]
    return places, batch.inputs["input_ids"][0][places], batch.targets["ids"][0][told]


@pytest.mark.parametrize("whole_words", [False, True])
def test_shares_are_those_of_the_paper(whole_words):
    encoder = encoder_of(MlmConfig(whole_words=whole_words), 128)
    rows = examples(encoder, 400)
    real = seen = kept = other = masked = 0
    for epoch in range(1, 5):
        for example, seed in zip(rows, seeds(len(rows), epoch=epoch), strict=True):
            _, stands, told = hidden(encoder.codec, example, seed)
            ids = example["input_ids"]
            real += len(ids) - np.isin(ids, [CLS, SEP]).sum()
            seen += len(told)
            assert not set(told.tolist()) & SPECIAL
            masked += (stands == MASK).sum()
            kept += (stands == told).sum()
            other += ((stands != MASK) & (stands != told)).sum()
            assert not set(stands[stands != MASK].tolist()) & SPECIAL
    spread = 4 * np.sqrt(0.15 * 0.85 / real) * (3 if whole_words else 1)  # words are fewer coins
    assert abs(seen / real - 0.15) < spread
    for part, share in ((masked, 0.8), (other, 0.1), (kept, 0.1)):
        assert abs(part / seen - share) < 4 * np.sqrt(share * (1 - share) / seen)


def test_coins_follow_seed_epoch_and_sample_and_nothing_else():
    encoder = encoder_of(MlmConfig(), 64)
    rows = examples(encoder)

    def places(**of: int) -> list[list[int]]:
        drawn = zip(rows, seeds(len(rows), **of), strict=True)
        return [hidden(encoder.codec, *each)[0].tolist() for each in drawn]

    assert places() == places() != places(epoch=2)
    assert places(seed=14) != places()
    assert places(seed=0, epoch=0) == places(seed=0, epoch=0)  # as in an evaluation
    together = encoder.codec.collate(rows[3:6], seeds(6)[3:])
    assert [
        row[:count].tolist()
        for row, count in zip(
            together.inputs["masked"], (together.targets["ids"] != -100).sum(axis=1), strict=True
        )
    ] == places()[3:6]


def test_coins_are_plain_hashes_of_the_seed_and_the_place():
    """A run that is resumed with a later version hides the same."""
    encoder, seed = encoder_of(MlmConfig(masked=0.3), 24, "char"), 123456789
    example = examples(encoder, 1)[0]
    known = range(5, encoder.codec.vocabulary.size)
    expected = []
    for place, token in enumerate(example["input_ids"].tolist()):
        if token in (CLS, SEP) or (mix(seed, 11, place) >> 11) / 2**53 >= 0.3:
            continue
        kind, other = (mix(seed, 12, place) >> 11) / 2**53, mix(seed, 13, place)
        stands = MASK if kind < 0.8 else known[other % len(known)] if kind < 0.9 else token
        expected.append((place, stands, token))
    assert [*zip(*map(np.ndarray.tolist, hidden(encoder.codec, example, seed)), strict=True)] == (
        expected
    )
    assert {stands for _, stands, _ in expected} > {MASK}


def test_the_tokens_of_a_word_are_hidden_together_or_not_at_all():
    encoder = encoder_of(MlmConfig(whole_words=True), 48)
    rows = examples(encoder, 60)
    several = 0
    for example, seed in zip(rows, seeds(len(rows)), strict=True):
        places = hidden(encoder.codec, example, seed)[0]
        words = example["words"]
        frame = np.isin(example["input_ids"], [CLS, SEP])
        told = {*words[places].tolist()}
        expected = np.flatnonzero(np.isin(words, [*told]) & ~frame)
        assert places.tolist() == expected.tolist()
        several += len(places) > len(told) > 0
    assert several > 5


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
def test_words_of_tokens_are_those_of_the_rule(kind):
    text = "Éa's  friends, 我们 went; x86 \u00ad home!"
    encoding = tokenizer(kind).encode(text, add_special_tokens=False)
    numbers = words_of(text, np.array(encoding.offsets))
    places = found(text).places
    for (start, end), number in zip(encoding.offsets, numbers.tolist(), strict=True):
        of = [at for at, (first, last) in enumerate(places) if first < end and start < last]
        assert number == of[0] if of else number >= len(places)
    blank = [number for number in numbers.tolist() if number >= len(places)]
    assert len(set(blank)) == len(blank)


def test_whole_words_need_a_tokenizer_that_knows_words():
    with pytest.raises(ConfigError, match=r"task.whole_words: needs words, and each token"):
        encoder_of(MlmConfig(whole_words=True), 24, "char")


def test_a_batch_of_which_nothing_is_hidden_has_one_empty_slot():
    codec = encoder_of(MlmConfig(masked=1e-9), 24).codec
    batch = codec.collate([{"input_ids": np.array([CLS, 9, SEP], np.int32)}] * 2, [1, 2])
    assert batch.inputs["masked"].tolist() == [[0], [0]]
    assert batch.targets["ids"].tolist() == [[-100], [-100]]
    assert batch.count == 0
