"""Texts, tokenizers and a tiny model for the tests of `clm`, `mlm` and `seq2seq`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from nlpkit.contracts import Codec, Example, HeadSpec, Row, Task, Use, Vocabulary
from nlpkit.data.encode import Encoder, packed
from nlpkit.data.vocabulary import vocabulary_of
from nlpkit.errors import DataError
from nlpkit_data.config import CharConfig, SubwordConfig
from nlpkit_data.tokenizers import bpe, char, wordpiece
from nlpkit_tasks.clm.config import ClmConfig
from nlpkit_tasks.clm.task import ClmTask
from nlpkit_tasks.mlm.config import MlmConfig
from nlpkit_tasks.mlm.task import MlmTask
from nlpkit_tasks.seq2seq.config import Seq2SeqConfig
from nlpkit_tasks.seq2seq.task import Seq2SeqTask

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Options = ClmConfig | MlmConfig | Seq2SeqConfig
WORDS = "the cat sat on a mat and then it went home to eat some fish with her friends".split()


def texts(count: int, seed: int = 7) -> list[str]:
    """Of 1 to 39 words."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 40, count)
    return [" ".join(generator.choice(WORDS, length)) for length in lengths]


@cache
def tokenizer(kind: str = "bpe") -> Tokenizer:
    train, options = {
        "bpe": (bpe, SubwordConfig(vocab_size=300, lowercase=False)),
        "wordpiece": (wordpiece, SubwordConfig(vocab_size=90)),
        "char": (char, CharConfig()),
    }[kind]
    return train(options, [*texts(30), "Éa! 我们 [x]"])


def pairs(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Texts, and their words from the last to the first; every third one has half of them."""
    found = []
    for at, text in enumerate(texts(count, seed)):
        words = text.split()[::-1]
        target = words[: len(words) // 2 + 1] if at % 3 == 0 else words
        found.append({"source": text, "target": " ".join(target)})
    return found


def task_of(options: Options) -> Task:
    if isinstance(options, Seq2SeqConfig):
        return Seq2SeqTask(options)
    return ClmTask(options) if isinstance(options, ClmConfig) else MlmTask(options)


def encoder_of(options: Options, length: int, kind: str = "bpe") -> Encoder:
    task = task_of(options)
    return Encoder(task, task.codec({}, vocabulary_of(tokenizer(kind), length)), tokenizer(kind))


def rows_of(found: list[str], **columns: list[str]) -> list[Row]:
    return [
        Row({"text": text, **{name: each[at] for name, each in columns.items()}}, f"a.txt:{at + 1}")
        for at, text in enumerate(found)
    ]


def samples(encoder: Encoder, rows: list[Row], use: Use) -> list[tuple[Example, str]]:
    """What a store gets of rows, and their addresses."""

    def each() -> Any:
        for found in encoder.encoded(rows, use):
            if isinstance(found.example, DataError):
                raise found.example
            for sample in encoder.codec.samples(found.example, use):
                yield sample, found.row.address

    return [*(packed(encoder.codec, each()) if encoder.codec.pack and use == "train" else each())]


class Tiny(nn.Module):
    """Sees the mean of what may be seen: of the documents of a row its own, and with the level
    "next" nothing that comes later."""

    def __init__(self, head: HeadSpec, vocabulary: Vocabulary, hidden: int = 16) -> None:
        super().__init__()
        self.next, self.inputs = head.level == "next", ("input_ids", "attention_mask")
        self.inputs += () if self.next else (head.over,)
        self.tokens = nn.Embedding(vocabulary.size, hidden)
        self.places = nn.Embedding(vocabulary.max_length, hidden)
        self.mix, self.out = nn.Linear(hidden, hidden), nn.Linear(hidden, head.size)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        masked: Tensor | None = None,
        *,
        document_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        size = input_ids.shape[1]
        places = torch.arange(size) if position_ids is None else position_ids
        hidden = self.tokens(input_ids) + self.places(places.to(input_ids.device))
        seen = attention_mask[:, None, :].expand(-1, size, -1).bool()
        if document_ids is not None:
            seen = seen & (document_ids[:, None, :] == document_ids[:, :, None])
        seen = seen.tril() if self.next else seen
        weights = seen / seen.sum(-1, keepdim=True).clamp(min=1)
        hidden = hidden + torch.tanh(self.mix(weights.to(hidden.dtype) @ hidden))
        if masked is not None:
            hidden = hidden.gather(1, masked[..., None].expand(-1, -1, hidden.shape[2]))
        return self.out(hidden)


def tiny(codec: Codec) -> Tiny:
    torch.manual_seed(5)
    return Tiny(codec.head, codec.vocabulary)
