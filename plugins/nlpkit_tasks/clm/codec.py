"""The next token of a text: from tokens, and back."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.contracts import Batch, HeadSpec, Part, Pieces, pad
from nlpkit.engine.settings import Settings
from nlpkit.errors import ConfigError, DataError, Problem
from nlpkit_tasks import inputs
from nlpkit_tasks.inputs import IGNORED
from nlpkit_tasks.metrics import BitsPerByte, Perplexity
from nlpkit_tasks.written import WritingCodec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit.contracts import Example, Metric, Row, Schema, Use, Vocabulary
    from nlpkit_tasks.clm.task import ClmTask

_LOOKED_AT = 4096  # tokens of a text, of which it is tried whether they give it back
_TOGETHER = 1 << 20  # tokens that are made text together
_NOTHING = "holds nothing that the tokenizer keeps"


class ClmCodec(WritingCodec):
    """The second half of `clm`.

    A document is bos, its tokens and eos, and each but bos is a target once. What a piece of it
    begins with is context alone: bos, the last target of the piece before, a prompt.
    """

    field = "continuation"

    def __init__(self, task: ClmTask, schema: Schema, vocabulary: Vocabulary) -> None:
        super().__init__(schema, vocabulary)
        self._task, self.pack = task, task.options.pack
        self._bos, self.eos = (inputs.needed(vocabulary, role, "clm") for role in ("bos", "eos"))
        room = vocabulary.max_length - 1
        part = Part(max_length=room, long=Pieces(), special=False, needs="ids")
        self.parts = dict.fromkeys([*task.columns, "text"], part)
        self.head = HeadSpec(size=vocabulary.size, level="next")
        if task.options.generate.get("max_tokens", 0) > room - 1:
            message = f"leaves a prompt no room in {vocabulary.max_length} tokens"
            remedy = f"set it to at most {room - 1}, or tokenizer.max_length to more"
            key = "task.generate.max_tokens"
            raise ConfigError([Problem(key=key, message=message, remedy=remedy)])

    def encode(self, row: Row, encodings: Mapping[str, Any], use: Use) -> Example:
        """In prediction `input_ids`, and the `size` of a prompt, of which an end may be cut off.

        Else the document as `tokens`, and `context`, how many of them are no targets; in evaluation
        also the `bytes` of its text that they give back.
        """
        parts = {name: np.array(each.ids, np.int32) for name, each in encodings.items()}
        if use == "predict":
            ((name, prompt),) = parts.items()
            cut = sum(len(each.ids) for each in encodings[name].overflowing)
            if not len(prompt):
                raise DataError(row.address, problem=_NOTHING)
            ids = np.append(np.int32(self._bos), prompt)
            return {"input_ids": ids, "size": np.int64(len(ids) + cut)}
        prompt, text = parts.get("prompt", np.zeros(0, np.int32)), parts["text"]
        if not len(text):
            raise DataError(row.address, problem=_NOTHING)
        tokens = np.concatenate([[self._bos], prompt, text, [self.eos]], dtype=np.int32)
        example: dict[str, Any] = {"tokens": tokens, "context": np.int32(1 + len(prompt))}
        if use == "evaluate":
            example["bytes"] = np.int64(self._given_back(row, encodings["text"].ids))
        return example

    def samples(self, example: Example, use: Use) -> Iterator[Example]:
        """Pieces with as many targets as an input has tokens; those of the prompt alone go."""
        size, tokens, context = self.vocabulary.max_length, example["tokens"], example["context"]
        rest = {name: example[name] for name in ("bytes",) if name in example}
        for start in range((context - 1) // size * size, len(tokens) - 1, size):
            piece = {"tokens": tokens[start : start + size + 1]}
            yield {**piece, "context": np.int32(max(1, context - start)), **rest}
            rest = {name: np.int64(0) for name in rest}

    def joined(self, examples: Sequence[Example]) -> Example:
        """The tokens of all; `context`, and how many tokens they have (`documents`), of each."""
        return {
            "tokens": np.concatenate([each["tokens"] for each in examples]),
            "context": np.array([each["context"] for each in examples], np.int32),
            "documents": np.array([len(each["tokens"]) for each in examples], np.int32),
        }

    def lengths(self, example: Example) -> Sequence[tuple[int, ...]]:
        """The tokens that go in: all but the last of each document."""
        if "input_ids" in example:
            return super().lengths(example)
        return [(len(example["tokens"]) - np.size(example["context"]),)]

    def collate(self, examples: Sequence[Example], seeds: Sequence[int]) -> Batch:
        """Inputs and the target `ids`, int64 [rows, tokens]; nothing here is random."""
        if "input_ids" in examples[0]:
            arrays = inputs.with_mask([each["input_ids"] for each in examples])
            return Batch(inputs=arrays, targets={}, count=float(len(examples)))
        rows = [_row(each) for each in examples]
        arrays = inputs.with_mask([each["input_ids"] for each in rows])
        if "documents" in examples[0]:
            arrays |= inputs.of_documents([each["sizes"] for each in rows])
        ids = pad([each["ids"] for each in rows], IGNORED).astype(np.int64)
        known = ["bytes"] if "bytes" in examples[0] else []
        about = {name: [np.atleast_1d(each[name]) for each in examples] for name in known}
        count = float((ids != IGNORED).sum())
        return Batch(inputs=arrays, targets={"ids": ids}, count=count, about=about)

    def metrics(self) -> Sequence[Metric]:
        """Perplexity, which counts eos, and bits per byte, which does not."""
        return [Perplexity(), BitsPerByte(self.eos)]

    def settings(self, generate: Mapping[str, Any]) -> Settings:
        """The config's, with what is asked here; of a short context half is left for prompts."""
        half = max(1, self.vocabulary.max_length // 2)
        usual = {"max_tokens": min(Settings.max_tokens, half)}
        return Settings.of(generate, {**usual, **self._task.options.generate})

    def refusal(self, example: Example, settings: Settings) -> str:
        """A prompt and what follows it have to fit together: nothing is cut off."""
        return settings.misfit(int(example["size"]), self.vocabulary.max_length)

    def begun(self, batch: Batch) -> tuple[Sequence[np.ndarray], None]:
        """Prompts, of a row each."""
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        return [row[real == 1] for row, real in zip(ids, mask, strict=True)], None

    def remarks(self, row: Row, encodings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Texts that their tokens do not give back."""
        text, ids = self._text(row), encodings["text"].ids
        kept = self.vocabulary.text(ids[:_LOOKED_AT])
        part = len(ids) > _LOOKED_AT  # which may end within a character
        if not (text.startswith(kept.rstrip("\ufffd")) if part else text == kept):
            yield (
                "have a text that its tokens do not give back",
                "bits_per_byte leaves out the bytes that are lost; tokenizer: bpe loses least, "
                "but a blank that a text begins with",
            )

    def _text(self, row: Row) -> str:
        return str(self._task.texts(row, targets=True)["text"])

    def _given_back(self, row: Row, ids: Sequence[int]) -> int:
        """The bytes of a text without those of the characters that its tokens lose, or else add."""
        text, back = self._text(row), Counter[str]()
        for at in range(0, len(ids), _TOGETHER):
            if (said := self.vocabulary.text(ids[at : at + _TOGETHER])) == text:
                return len(text.encode())
            back.update(said)
        had = Counter(text)
        odd = max(_size(had - back), _size(back - had))
        return max(0, len(text.encode()) - odd)


def _size(characters: Mapping[str, int]) -> int:
    """In bytes of UTF-8."""
    return sum(count * len(character.encode()) for character, count in characters.items())


def _row(example: Example) -> dict[str, np.ndarray]:
    """The tokens that go in, those that they tell, and how many of them each document has."""
    tokens, context = example["tokens"], np.atleast_1d(example["context"])
    sizes = np.atleast_1d(example.get("documents", len(tokens)))
    ends, sizes = np.cumsum(sizes), sizes - 1
    ids = np.delete(tokens, ends - sizes - 1)
    ids[inputs.places(sizes) < np.repeat(context, sizes) - 1] = IGNORED
    return {"input_ids": np.delete(tokens, ends - 1), "ids": ids, "sizes": sizes}
