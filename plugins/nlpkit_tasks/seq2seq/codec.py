"""A text that is written by another: from tokens, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.contracts import Batch, Cut, HeadSpec, Part, Prediction, pad
from nlpkit.engine.settings import Settings
from nlpkit.errors import ConfigError, DataError, Problem
from nlpkit_tasks import inputs
from nlpkit_tasks.inputs import IGNORED
from nlpkit_tasks.metrics import Perplexity
from nlpkit_tasks.seq2seq.metrics import ExactMatch, overlaps, text_of
from nlpkit_tasks.written import WritingCodec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit.contracts import Axes, Example, Metric, Row, Schema, Use, Vocabulary
    from nlpkit_tasks.seq2seq.task import Seq2SeqTask

_NOTHING = "holds nothing that the tokenizer keeps"


class Seq2SeqCodec(WritingCodec):
    """The second half of `seq2seq`.

    The source has the tokenizer's own special tokens round it. What is written begins with bos and
    ends with eos; each token behind bos is a target once.
    """

    field = "output"
    inputs: Mapping[str, Axes] = {
        "input_ids": ("rows", "source"),
        "attention_mask": ("rows", "source"),
        "decoder_input_ids": ("rows", "tokens"),
    }

    def __init__(self, task: Seq2SeqTask, schema: Schema, vocabulary: Vocabulary) -> None:
        super().__init__(schema, vocabulary)
        self._options = task.options
        self._bos, self.eos = (
            inputs.needed(vocabulary, role, "seq2seq") for role in ("bos", "eos")
        )
        most = vocabulary.max_length
        longest = self._options.max_target_length or most
        target = Part(max_length=longest - 1, long=Cut(), special=False, needs="ids")
        self.parts = {"source": Part(needs="words"), "target": target}
        self.head = HeadSpec(size=vocabulary.size, level="target", over="decoder_input_ids")
        asked = {
            "task.max_target_length": longest,
            "task.generate.max_tokens": self._options.generate.get("max_tokens", 0),
        }
        for key, tokens in asked.items():
            if tokens > most:
                message = f"{tokens} is more than the {most} tokens that the model takes"
                remedy = f"set it to {most} or less, or tokenizer.max_length to more"
                raise ConfigError([Problem(key=key, message=message, remedy=remedy)])

    def encode(self, row: Row, encodings: Mapping[str, Any], use: Use) -> Example:
        """`input_ids`, the source; but in prediction `target_ids`, the target and eos.

        In evaluation also the target's own text, in UTF-8, as `reference`.
        """
        source = encodings["source"]
        if not any(mark == 0 for mark in source.special_tokens_mask):
            raise DataError(row.address, column=self._options.source, problem=_NOTHING)
        example: dict[str, Any] = {"input_ids": np.array(source.ids, np.int32)}
        if use == "predict":
            return example
        target = encodings["target"].ids
        if not target:
            raise DataError(row.address, column=self._options.target, problem=_NOTHING)
        example["target_ids"] = np.array([*target, self.eos], np.int32)
        if use == "evaluate":
            text = str(row.values[self._options.target])
            example["reference"] = np.frombuffer(text.encode(errors="replace"), np.uint8)
        return example

    def lengths(self, example: Example) -> Sequence[tuple[int, ...]]:
        """The tokens of the source, and those that are written."""
        return [
            tuple(len(example[name]) for name in ("input_ids", "target_ids") if name in example)
        ]

    def collate(self, examples: Sequence[Example], seeds: Sequence[int]) -> Batch:
        """Inputs and the target `ids`, int64 [rows, tokens]; nothing here is random."""
        arrays = inputs.with_mask([each["input_ids"] for each in examples])
        if "target_ids" not in examples[0]:
            return Batch(inputs=arrays, targets={}, count=float(len(examples)))
        told = [each["target_ids"] for each in examples]
        given = [np.append(np.int32(self._bos), each[:-1]) for each in told]
        arrays["decoder_input_ids"] = pad(given).astype(np.int64)
        known = ["reference"] if "reference" in examples[0] else []
        return Batch(
            inputs=arrays,
            targets={"ids": pad(told, IGNORED).astype(np.int64)},
            count=float(sum(map(len, told))),
            about={name: [each[name] for each in examples] for name in known},
        )

    def metrics(self) -> Sequence[Metric]:
        """Perplexity; of what is written exact match and, where they are wanted, BLEU and chrF."""
        words = self._options.bleu
        words = self.schema.get("words", "13a") if words == "auto" else words
        return [Perplexity(), *overlaps(words), ExactMatch()]

    def settings(self, generate: Mapping[str, Any]) -> Settings:
        """The config's, with what is asked here."""
        usual = {"max_tokens": min(Settings.max_tokens, self.vocabulary.max_length)}
        return Settings.of(generate, {**usual, **self._options.generate})

    def refusal(self, example: Example, settings: Settings) -> str:
        """What is written has to fit into the model."""
        return settings.misfit(0, self.vocabulary.max_length)

    def begun(self, batch: Batch) -> tuple[Sequence[np.ndarray], dict[str, np.ndarray]]:
        """Each text begins with bos, and follows from its source."""
        source = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
        return [np.array([self._bos])] * len(source["input_ids"]), source

    def gold(self, batch: Batch) -> list[Prediction] | None:
        """The targets' own text."""
        if "reference" not in batch.about:
            return None
        return [Prediction(output=text_of(each)) for each in batch.about["reference"]]

    def faultless(self, example: Example) -> Prediction | None:
        """The text of as many tokens as a target may have."""
        if "reference" not in example:
            return None
        ids = example["target_ids"][: self.parts["target"].max_length].tolist()
        ids = ids[: ids.index(self.eos)] if self.eos in ids else ids  # no writer goes on behind it
        return Prediction(output=self.vocabulary.text(ids))

    def remarks(self, row: Row, encodings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Targets that their tokens do not give back."""
        if self.vocabulary.text(encodings["target"].ids) != row.values[self._options.target]:
            yield (
                "have a target that its tokens do not give back",
                "no model can write it so; tokenizer: bpe loses least",
            )
