"""Entities in a text or in a list of words: from tokens, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.contracts import Batch, Codec, Cut, HeadSpec, Part, Prediction, Windows, pad
from nlpkit.errors import DataError, closest
from nlpkit_tasks import inputs
from nlpkit_tasks.inputs import IGNORED
from nlpkit_tasks.token.metrics import EntityCounts
from nlpkit_tasks.token.outputs import chosen, shared
from nlpkit_tasks.token.tags import entities, follows, names
from nlpkit_tasks.token.words import tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tokenizers import Encoding

    from nlpkit.contracts import Arrays, Example, Metric, Row, Schema, Use, Vocabulary
    from nlpkit_tasks.token.tags import Entity
    from nlpkit_tasks.token.task import TokenTask
    from nlpkit_tasks.token.words import Words

_CAPITAL, _ROLES = re.compile("[A-Z]"), re.compile(r"\[[A-Z]+\]")  # [UNK] and [SEP] are no words
_ABOUT = ("window", "token", "start", "end", "given", "text", "tags")


class TokenCodec(Codec):
    """The second half of `token`."""

    def __init__(self, task: TokenTask, schema: Schema, vocabulary: Vocabulary) -> None:
        super().__init__(schema, vocabulary)
        self.inputs = {**Codec.inputs, "token_type_ids": ("rows", "tokens")}
        self._task, self._tags = task, names(schema["labels"])
        self._overlap = vocabulary.max_length // 4
        windows = Windows(most=None, overlap=self._overlap)
        self.parts = {"text": Part(long=windows if task.options.long_text == "window" else Cut())}
        self.labels = schema["counts"]
        self.head = HeadSpec(size=len(self._tags), level="token", labels=tuple(self._tags))

    def encode(self, row: Row, encodings: Mapping[str, Any], use: Use) -> Example:
        """Windows one after the other, their lengths, and what belongs to the use.

        `labels`, by token, for training and evaluation; and for evaluation and prediction what
        `Batch.about` has, by word: `window` and `token`, `start` and `end` in the text, the id of
        the gold tag in `tags` (in evaluation); whether words were `given`; the `text` as UTF-8.
        """
        words, windows = self._task.words_of(row), _listed(encodings["text"])
        example: dict[str, Any] = inputs.joined(windows)
        if not len(example["input_ids"]):
            raise DataError(row.address, problem="holds nothing that the tokenizer keeps")
        window, token = tokens_of(words, windows, self._overlap)
        if use != "train":
            start, end = np.array(words.places, np.int32).reshape(-1, 2).T
            example |= {"window": window, "token": token, "start": start, "end": end}
            example["given"] = np.array([words.given])
            example["text"] = np.frombuffer(words.text.encode(), np.uint8)
        if use != "predict":
            tags = self._ids(row, words)
            starts = np.cumsum(example["windows"]) - example["windows"]
            first = np.flatnonzero(token >= 0)[::-1]  # of words that share a token the first counts
            labels = np.full(len(example["input_ids"]), IGNORED, np.int32)
            labels[starts[window[first]] + token[first]] = tags[first]
            example["labels"] = labels
            example |= {"tags": tags} if use == "evaluate" else {}
        return example

    def lengths(self, example: Example) -> Sequence[tuple[int, ...]]:
        """The tokens of each window."""
        return [(length,) for length in example["windows"].tolist()]

    def collate(self, examples: Sequence[Example], seeds: Sequence[int]) -> Batch:
        """Inputs and the target `labels`, int64 [rows, tokens]; nothing here is random."""
        arrays, rows = inputs.padded(examples)
        about = {name: [each[name] for each in examples] for name in _ABOUT if name in examples[0]}
        if "labels" not in examples[0]:
            count = float(len(examples))
            return Batch(inputs=arrays, targets={}, count=count, rows=rows, about=about)
        labels = pad(inputs.by_window(examples, "labels"), IGNORED).astype(np.int64)
        targets, count = {"labels": labels}, float((labels != IGNORED).sum())
        return Batch(inputs=arrays, targets=targets, count=count, rows=rows, about=about)

    def metrics(self) -> Sequence[Metric]:
        """One metric, which gives several values."""
        return [EntityCounts(self.schema["labels"])]

    def decode(self, outputs: Arrays, batch: Batch) -> list[Prediction]:
        """`entities` of `text`, `label`, `start`, `end` and `score`, in their order.

        Places are characters of a text, and words where words were given. A score is the mean
        probability of the tags of its words.
        """
        return [
            Prediction(
                entities=[
                    {**found, "score": float(scores[each.start : each.end].mean())}
                    for each, found in self._shown(tags, batch, sample)
                ]
            )
            for sample, (tags, scores) in enumerate(chosen(outputs["logits"], batch))
        ]

    def gold(self, batch: Batch) -> list[Prediction]:
        """The same without scores."""
        return [
            Prediction(entities=[found for _, found in self._shown(tags, batch, sample)])
            for sample, tags in enumerate(batch.about["tags"])
        ]

    def remarks(self, row: Row, encodings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Words and spans that tokens do not fit, tags that break their scheme, lost capitals."""
        words, windows = self._task.words_of(row), _listed(encodings["text"])
        target, scheme = self._task.target(row, words), self.schema["scheme"]
        window, token = tokens_of(words, windows, self._overlap)
        if (token < 0).any():
            yield (
                "have words that the tokenizer loses",
                "they are predicted as O, whatever they are",
            )
        if shared(window, token).any():
            yield "have words that share a token", "they get one tag; wordpiece and char part them"
        if target.cuts:
            yield (
                "have a span that cuts a word",
                "words are taken whole; `end` is after the last sign",
            )
        if not follows(target.tags, scheme):
            remedy = "what goes on with nothing begins an entity, as conlleval reads it"
            yield f"have tags that do not follow {scheme}", remedy
        kept = "".join(piece for window in windows for piece in window.tokens)
        unknown = any(self.vocabulary.special.get("unk") in window.ids for window in windows)
        if unknown:  # where capitals may be
            return
        if _CAPITAL.search(words.text) and not _CAPITAL.search(_ROLES.sub("", kept)):
            remedy = "names are told by them: take a cased model, or tokenizer.lowercase: false"
            yield "have capitals, and the tokenizer folds case", remedy

    def _ids(self, row: Row, words: Words) -> np.ndarray:
        """The id of each word's tag, int32 [words]."""
        ids, labels = np.zeros(len(words.places), np.int32), self.schema["labels"]
        for entity in self._task.target(row, words).entities:
            if entity.label not in self.labels:
                raise DataError(
                    row.address,
                    column=self._task.options.label,
                    value=entity.label,
                    problem=f"is not one of the {len(labels)} labels",
                    suggestion=closest(entity.label, labels),
                )
            begin = 1 + 2 * labels.index(entity.label)
            ids[entity.start : entity.end] = begin + 1
            ids[entity.start] = begin
        return ids

    def _shown(
        self, tags: np.ndarray, batch: Batch, sample: int
    ) -> Iterator[tuple[Entity, dict[str, Any]]]:
        """The entities of a sample, and what is said of each."""
        if not tags.any():
            return
        about = {name: values[sample] for name, values in batch.about.items()}
        text = about["text"].tobytes().decode()
        for entity in entities(self._tags[tag] for tag in tags):
            start, end = int(about["start"][entity.start]), int(about["end"][entity.end - 1])
            shown = {"text": text[start:end], "label": entity.label}
            if about["given"][0]:
                start, end = entity.start, entity.end
            yield entity, {**shown, "start": start, "end": end}


def _listed(encodings: Any) -> Sequence[Encoding]:
    """The windows of a text; one that is cut is one of them."""
    return encodings if isinstance(encodings, list) else [encodings]
