"""Tokenizers and rows for the tests of the task `token`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nlpkit.contracts import Batch, Example, Row, Use
from nlpkit.data.encode import Encoder
from nlpkit.data.vocabulary import vocabulary_of
from nlpkit.errors import DataError
from nlpkit_data.config import CharConfig, SubwordConfig
from nlpkit_data.tokenizers import bpe, char, wordpiece
from nlpkit_tasks.token.codec import TokenCodec
from nlpkit_tasks.token.config import TokenConfig
from nlpkit_tasks.token.task import TokenTask

TEXTS = (
    "EU rejects German call to boycott British lamb .",
    "Peter Blackburn lives in New-York, and the club's name isn't \"FC Köln\"!",
    "我住在北京市，他在上海。",
    "naïve ﬁnance 😀 👍🏽 cafe\u0301 x86 3.14",
)


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    alphabet = sorted({sign for text in TEXTS for sign in text})
    trainer = trainers.UnigramTrainer(
        vocab_size=150, initial_alphabet=alphabet, unk_token="<unk>", special_tokens=["<unk>"]
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


@cache
def tokenizer(name: str) -> Tokenizer:
    """One of each kind; `unigram` puts no special tokens round a text."""
    if name == "unigram":
        return _unigram()
    kind, options = {
        "wordpiece": (wordpiece, SubwordConfig(vocab_size=120)),
        "bpe": (bpe, SubwordConfig(vocab_size=400)),
        "char": (char, CharConfig()),
    }[name]
    return kind(options, TEXTS)


KINDS = ("wordpiece", "bpe", "char", "unigram")


def row(text: Any, label: Any = None, line: int = 2) -> Row:
    return Row({"text": text, "label": label}, f"data/train.jsonl:{line}")


def codec_of(rows: list[Row], kind: str, length: int, **options: Any) -> tuple[TokenCodec, Encoder]:
    task = TokenTask(TokenConfig(**options))
    codec = task.codec(task.fit(rows), vocabulary_of(tokenizer(kind), length))
    return codec, Encoder(task, codec, tokenizer(kind))


def examples(encoder: Encoder, rows: list[Row], use: Use) -> list[Example]:
    found = [each.example for each in encoder.encoded(rows, use)]
    for each in found:
        if isinstance(each, DataError):
            raise each
    return found


def right_logits(batch: Batch, size: int) -> np.ndarray:
    """What a model gives that knows each target; elsewhere it is sure of the last tag."""
    labels = batch.targets["labels"]
    return np.eye(size, dtype=np.float32)[np.where(labels < 0, size - 1, labels)] * 20
