"""Tokens that are hidden in a text: from tokens, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.contracts import Batch, Codec, HeadSpec, Part, Pieces, Prediction, pad
from nlpkit.engine.choose import log_sums
from nlpkit.errors import ConfigError, DataError, Problem
from nlpkit_tasks import inputs
from nlpkit_tasks.inputs import IGNORED
from nlpkit_tasks.metrics import Perplexity
from nlpkit_tasks.mlm.masking import Masking, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit.contracts import Arrays, Example, Metric, Row, Schema, Use, Vocabulary
    from nlpkit_tasks.mlm.task import MlmTask

_CANDIDATES = 5


class MlmCodec(Codec):
    """The second half of `mlm`. Each piece of a text has its own cls before and sep behind it."""

    def __init__(self, task: MlmTask, schema: Schema, vocabulary: Vocabulary) -> None:
        super().__init__(schema, vocabulary)
        self._task, self.pack = task, task.options.pack
        self._mask = inputs.needed(vocabulary, "mask", "mlm")
        special = vocabulary.special
        frame = ([special[role]] if role in special else [] for role in ("cls", "sep"))
        self._frame = [np.array(each, np.int32) for each in frame]
        self._room = vocabulary.max_length - sum(map(len, self._frame))
        self._masking = Masking(task.options.masked, vocabulary)
        if not len(self._masking.known):
            message = "has special tokens alone, and none of them is told"
            remedy = "take one whose vocabulary has words, or parts of them"
            raise ConfigError([Problem(key="tokenizer", message=message, remedy=remedy)])
        if task.options.whole_words and not self._masking.knows_words:
            message = "needs words, and each token of the tokenizer is one character"
            remedy = "set it to false, or take wordpiece or bpe"
            raise ConfigError([Problem(key="task.whole_words", message=message, remedy=remedy)])
        cut = Pieces(keep="start", roles=("mask",))
        part = Part(max_length=self._room, long=cut, special=False, needs="ids")
        self.parts = {"text": replace(part, needs="words") if task.options.whole_words else part}
        tokens, slots = ("rows", "tokens"), ("rows", "slots")
        self.inputs = {**Codec.inputs, "token_type_ids": tokens, "masked": slots}
        self.head = HeadSpec(size=vocabulary.size, level="vocabulary", over="masked")

    def encode(self, row: Row, encodings: Mapping[str, Any], use: Use) -> Example:
        """`input_ids`; in prediction also `start` and `end` of each mask in the text, else the
        number of each token's word (`words`), where these are hidden whole."""
        encoding, text = encodings["text"], str(self._task.texts(row, targets=False)["text"])
        ids = np.array(encoding.ids, np.int32)
        if use == "predict":
            if any(self._mask in rest.ids for rest in encoding.overflowing):
                problem = f"has a mask behind the {self._room} tokens that the model takes"
                raise DataError(row.address, problem=problem, remedy="give the text around it")
            ends = np.array(encoding.offsets, np.int32).reshape(-1, 2)[ids == self._mask, 1]
            starts = ends - len(self.vocabulary.token(self._mask))  # a blank before it is its own
            return {"input_ids": self._framed(ids), "start": starts, "end": ends}
        if not len(ids):
            raise DataError(row.address, problem="holds nothing that the tokenizer keeps")
        if not self._task.options.whole_words:
            return {"input_ids": ids}
        return {"input_ids": ids, "words": words_of(text, np.array(encoding.offsets, np.int32))}

    def samples(self, example: Example, use: Use) -> Iterator[Example]:
        """Pieces with a frame of their own, which is of no word."""
        for start in range(0, len(example["input_ids"]), self._room):
            piece = {name: each[start : start + self._room] for name, each in example.items()}
            framed = {"input_ids": self._framed(piece["input_ids"])}
            if "words" in piece:
                before, after = map(len, self._frame)
                framed["words"] = np.pad(piece["words"], (before, after), constant_values=-1)
            yield framed

    def joined(self, examples: Sequence[Example]) -> Example:
        """One after the other, and how many tokens each has (`documents`); no word is of two."""
        ids = [each["input_ids"] for each in examples]
        whole = {"input_ids": np.concatenate(ids)}
        if "words" in examples[0]:
            words, first = list[np.ndarray](), 0
            for each in examples:
                words.append(each["words"] - each["words"].min() + first)
                first = int(words[-1].max()) + 1
            whole["words"] = np.concatenate(words)
        return {**whole, "documents": np.array([len(each) for each in ids], np.int32)}

    def collate(self, examples: Sequence[Example], seeds: Sequence[int]) -> Batch:
        """Inputs and the target `ids` [rows, slots]; what is hidden depends on the seeds alone.

        In prediction the masks of the texts are the slots.
        """
        rows = [each["input_ids"] for each in examples]
        hidden = [np.flatnonzero(row == self._mask) for row in rows]
        targets, count = dict[str, np.ndarray](), float(len(examples))
        if "start" not in examples[0]:
            chosen = [self._masking(*each) for each in zip(examples, seeds, strict=True)]
            hidden = [each.places for each in chosen]
            told = [row[each] for row, each in zip(rows, hidden, strict=True)]
            rows = [each.ids for each in chosen]
            targets, count = {"ids": _slots(told, IGNORED)}, float(sum(map(len, hidden)))
        arrays = inputs.with_mask(rows)
        arrays |= {"token_type_ids": np.zeros_like(arrays["input_ids"]), "masked": _slots(hidden)}
        if "documents" in examples[0]:
            arrays |= inputs.of_documents([each["documents"] for each in examples])
        names = ("start", "end") if not targets else ()
        about = {name: [each[name] for each in examples] for name in names}
        return Batch(inputs=arrays, targets=targets, count=count, about=about)

    def metrics(self) -> Sequence[Metric]:
        """Of the hidden tokens."""
        return [Perplexity()]

    def decode(self, outputs: Arrays, batch: Batch) -> list[Prediction]:
        """`tokens`: for each mask `start`, `end` and its likeliest `candidates`, each alone."""
        places = zip(batch.about["start"], batch.about["end"], strict=True)
        return [
            Prediction(
                tokens=[
                    {"start": start, "end": end, "candidates": self._candidates(logits)}
                    for start, end, logits in zip(
                        starts.tolist(), ends.tolist(), of_row, strict=False
                    )
                ]
            )
            for (starts, ends), of_row in zip(places, outputs["logits"], strict=True)
        ]

    def _framed(self, ids: np.ndarray) -> np.ndarray:
        before, after = self._frame
        return np.concatenate([before, ids, after])

    def _candidates(self, logits: np.ndarray) -> list[dict[str, Any]]:
        wide = logits.astype(np.float64)
        scores = np.exp(wide - log_sums(wide[None])[0])
        best = self._masking.known[np.argsort(-scores[self._masking.known], kind="stable")]
        return [
            {"token": self.vocabulary.text([id]).strip(" ") or " ", "score": float(scores[id])}
            for id in best[:_CANDIDATES].tolist()
        ]


def _slots(rows: Sequence[np.ndarray], value: int = 0) -> np.ndarray:
    """[rows, slots], at least one slot, so that shapes are never empty."""
    return pad([each if len(each) else np.array([value]) for each in rows], value).astype(np.int64)
