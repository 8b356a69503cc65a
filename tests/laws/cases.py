"""What the laws are tried on: the cases of each task, and each loss once more, written plainly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nlpkit.contracts import Batch, Codec, HeadSpec, Objective, Row, Use, Vocabulary
from nlpkit.data.encode import Encoder
from nlpkit.data.loader import to_tensors
from nlpkit.data.plan import sample_seeds
from nlpkit.data.store import StoreWriter, TokenStore
from nlpkit.nn import StepModule, call, worked_out
from nlpkit_tasks.clm.config import ClmConfig
from nlpkit_tasks.mlm.config import MlmConfig
from nlpkit_tasks.objective import VocabularyObjective
from nlpkit_tasks.seq2seq.config import Seq2SeqConfig
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.objective import SequenceObjective
from nlpkit_tasks.sequence.task import SequenceTask
from nlpkit_tasks.token.config import TokenConfig
from nlpkit_tasks.token.objective import TokenObjective
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.model import build as build_transformer
from tests.tasks import language, tokens

Told = ClmConfig | MlmConfig | Seq2SeqConfig
LABELS = ["a", "b", "c"]
WEIGHTS = {"a": 0.25, "b": 1.0, "c": 3.5}
DTYPES = {"float64": torch.float64, "float32": torch.float32}
VOCABULARY = Vocabulary(size=50, max_length=64)


class WeightedTokens:
    """A toy: weighted cross-entropy of each token, summed; tokens of -100 do not count."""

    def total(
        self, logits: torch.Tensor, targets: dict[str, torch.Tensor], rows: torch.Tensor | None
    ) -> torch.Tensor:
        losses = functional.cross_entropy(
            logits.flatten(0, 1), targets["tags"].flatten(), reduction="none", ignore_index=-100
        )
        return (losses * targets["weights"].flatten().to(losses.dtype)).sum()


@dataclass(frozen=True)
class Case:
    """An objective under test, and the same loss written plainly: a mean over the whole batch."""

    options: SequenceConfig | TokenConfig | Told | None
    plain: Any


def _plain_class(logits: Any, batch: Batch, *, smoothing: float = 0.0) -> torch.Tensor:
    label, weight = batch.targets["label"], batch.targets["weight"].to(logits.dtype)
    log_probabilities = logits.log_softmax(-1)
    size = logits.shape[-1]
    wanted = functional.one_hot(label, size).to(logits.dtype) * (1 - smoothing) + smoothing / size
    return -(wanted * log_probabilities * weight[:, None]).sum() / weight.sum()


def _plain_multilabel(logits: Any, batch: Batch) -> torch.Tensor:
    label, weight = batch.targets["label"].to(logits.dtype), batch.targets["weight"]
    p = logits.sigmoid()
    losses = -(label * p.log() + (1 - label) * (1 - p).log())
    weights = weight.to(logits.dtype)[:, None].expand_as(losses)
    return (losses * weights).sum() / weights.sum()


def _plain_regression(logits: Any, batch: Batch) -> torch.Tensor:
    weight = batch.targets["weight"].to(logits.dtype)
    return (weight * (logits[:, 0] - batch.targets["label"].to(logits.dtype)) ** 2).sum() / (
        weight.sum()
    )


def _plain_words(logits: Any, batch: Batch) -> torch.Tensor:
    """Word after word, by where its token stands, not by the targets."""
    losses, first = [], 0
    rows = [1] * len(logits) if batch.rows is None else batch.rows.tolist()
    for sample, count in enumerate(rows):
        for window, token, tag in zip(
            *(batch.about[name][sample].tolist() for name in ("window", "token", "tags")),
            strict=True,
        ):
            if token >= 0:
                losses.append(-logits[first + window, token].log_softmax(-1)[tag])
        first += count
    return torch.stack(losses).mean()


def _plain_told(logits: Any, batch: Batch, *, smoothing: float = 0.0) -> torch.Tensor:
    """Place after place."""
    rows = zip(logits, batch.targets["ids"].tolist(), strict=True)
    losses = [
        (smoothing - 1) * (logs := of_place.log_softmax(-1))[token] - smoothing * logs.mean()
        for of_row, ids in rows
        for of_place, token in zip(of_row, ids, strict=True)
        if token != -100
    ]
    return torch.stack(losses).mean()


def _plain_weighted_tokens(logits: Any, batch: Batch) -> torch.Tensor:
    counted = batch.targets["tags"] != -100
    weights = batch.targets["weights"][counted].to(logits.dtype)
    losses = functional.cross_entropy(
        logits[counted], batch.targets["tags"][counted], reduction="none"
    )
    return (losses * weights).sum() / weights.sum()


SEQUENCE: dict[str, Case] = {
    "class": Case(SequenceConfig(), _plain_class),
    "class weights": Case(SequenceConfig(class_weights=WEIGHTS), _plain_class),
    "row weights": Case(SequenceConfig(weight="weight"), _plain_class),
    "both weights": Case(SequenceConfig(weight="weight", class_weights=WEIGHTS), _plain_class),
    "label smoothing": Case(
        SequenceConfig(label_smoothing=0.1, class_weights=WEIGHTS),
        lambda logits, batch: _plain_class(logits, batch, smoothing=0.1),
    ),
    "multi-label": Case(SequenceConfig(target="multilabel", weight="weight"), _plain_multilabel),
    "regression": Case(SequenceConfig(target="regression", weight="weight"), _plain_regression),
    "windows": Case(
        SequenceConfig(long_text="window", weight="weight", class_weights=WEIGHTS), _plain_class
    ),
}
TOKEN = {"token": Case(TokenConfig(), _plain_words)}
CLM = {
    "clm": Case(ClmConfig(pack=False), _plain_told),
    "clm packed": Case(ClmConfig(), _plain_told),
}
MLM = {
    "mlm": Case(MlmConfig(pack=False), _plain_told),
    "mlm packed": Case(MlmConfig(whole_words=True), _plain_told),
}
SEQ2SEQ = {
    "seq2seq": Case(Seq2SeqConfig(max_target_length=24), _plain_told),
    "seq2seq smoothed": Case(
        Seq2SeqConfig(max_target_length=24, label_smoothing=0.1),
        lambda logits, batch: _plain_told(logits, batch, smoothing=0.1),
    ),
}
TAGS = {"EU": "B-org", "Köln": "B-loc", "New": "B-loc", "York": "I-loc", "Peter": "B-per"}
_OTHERS = ("rejects", "call", "lamb", "boycott")


def sentences(count: int) -> list[dict[str, Any]]:
    """Rows of 1 to 39 words with their tags; the second one has no word that counts."""
    generator = np.random.default_rng(7)
    found = []
    for index in range(count):
        length = int(generator.integers(1, 40))
        words = generator.choice([*TAGS, *_OTHERS], length).tolist() if index != 1 else ["\u200b"]
        found.append({"text": words, "label": [TAGS.get(word, "O") for word in words]})
    return found


def documents(count: int) -> list[dict[str, Any]]:
    """Rows of 1 to 39 words."""
    return [{"text": text} for text in language.texts(count)]


@dataclass(frozen=True, kw_only=True)
class OfTask:
    """What a task brings to the laws, each of which is tried on it.

    Attributes:
        gradients: Law 1: objectives by name, with their losses written plainly.
        batches: Law 2: the name of that whose rows are put into batches.
        evaluations: Law 5: the names of those that are evaluated.
        rows: Laws 4 and 6: what is trained on, killed, resumed and exported.
    """

    gradients: dict[str, Case]
    batches: str
    evaluations: tuple[str, ...]
    rows: list[dict[str, Any]]


TASKS = {
    "sequence": OfTask(
        gradients=SEQUENCE,
        batches="class",
        evaluations=("both weights", "multi-label", "regression", "windows"),
        rows=[
            {"text": f"{word} number {number} {'of many ' * (number % 5)}", "label": label}
            for number in range(30)
            for word, label in (("where is my parcel", "track"), ("give my money back", "refund"))
        ],
    ),
    "token": OfTask(gradients=TOKEN, batches="token", evaluations=("token",), rows=sentences(60)),
    "clm": OfTask(gradients=CLM, batches="clm packed", evaluations=("clm",), rows=documents(60)),
    "mlm": OfTask(gradients=MLM, batches="mlm packed", evaluations=("mlm",), rows=documents(60)),
    "seq2seq": OfTask(
        gradients=SEQ2SEQ,
        batches="seq2seq",
        evaluations=("seq2seq smoothed",),
        rows=language.pairs(60),
    ),
}
TOYS = {"token-weighted": Case(None, _plain_weighted_tokens)}
CASES = {name: case for task in TASKS.values() for name, case in task.gradients.items()} | TOYS


def examples(case: Case, samples: int) -> list[dict[str, Any]]:
    """Rows of very uneven length, weight and label, encoded."""
    if isinstance(case.options, TokenConfig):
        rows = [tokens.row(**row) for row in sentences(samples)]
        return tokens.examples(_of_words()[1], rows, "evaluate")
    if isinstance(case.options, Told):
        use: Use = "train" if getattr(case.options, "pack", False) else "evaluate"
        texts = documents(3 * samples)
        if isinstance(case.options, Seq2SeqConfig):
            texts = language.pairs(samples)
        rows_of = [Row(each, f"a.txt:{at}") for at, each in enumerate(texts, 1)]
        found = language.samples(_of_documents(case.options), rows_of, use)[:samples]
        return [dict(example) for example, _ in found]
    generator = np.random.default_rng(7)
    rows = []
    for index in range(samples):
        length = int(generator.integers(1, 40))
        label = LABELS[int(generator.integers(0, 3))]
        weight = float(generator.choice([0.0, 0.3, 1.0, 7.0])) if index else 0.7
        row: dict[str, Any] = {
            "input_ids": generator.integers(5, 50, length).astype(np.int32),
            "token_type_ids": np.zeros(length, np.uint8),
        }
        target = case.options.target if case.options else "tokens"
        if target == "tokens":
            row["tags"] = generator.choice([-100, 0, 1, 2], length).astype(np.int64)
            row["weights"] = generator.uniform(0.1, 5.0, length)
        elif target == "class":
            row["label"] = np.int64(LABELS.index(label))
        elif target == "multilabel":
            row["label"] = generator.integers(0, 2, 3).astype(np.uint8)
        else:
            row["label"] = np.float64(generator.normal())
        if case.options:
            classes = WEIGHTS[label] if case.options.class_weights != "none" else 1.0
            rows_weight = weight if case.options.weight else 1.0
            row["weight"] = np.float64(classes * rows_weight)
            if case.options.long_text == "window":  # of 11 tokens, and what is left
                row["windows"] = np.diff([*range(0, length, 11), length]).astype(np.int32)
        rows.append(row)
    return rows


@cache
def _of_words() -> tuple[Codec, Encoder]:
    """In windows of 16 tokens."""
    return tokens.codec_of([tokens.row(**row) for row in sentences(20)], "wordpiece", 16)


def _of_documents(options: Told) -> Encoder:
    return _encoder(type(options), options.model_dump_json())


@cache
def _encoder(kind: type[Told], options: str) -> Encoder:
    return language.encoder_of(kind.model_validate_json(options), 40)


def codec_of(case: Case) -> Codec:
    """The codec of a case that is no toy."""
    if isinstance(case.options, TokenConfig):
        return _of_words()[0]
    if isinstance(case.options, Told):
        return _of_documents(case.options).codec
    options = case.options or SequenceConfig()
    labels = [] if options.target == "regression" else LABELS
    schema = {"labels": labels, "counts": dict.fromkeys(labels, 1), "weights": {}, "mean": 0.0}
    return SequenceTask(options).codec(schema, VOCABULARY)


def stored(path: Path, case: Case, samples: int) -> TokenStore:
    """The rows of a case in a store."""
    with StoreWriter(path) as writer:
        for index, example in enumerate(examples(case, samples)):
            writer.append(example, f":{index}", codec_of(case).lengths(example))
    return TokenStore.open(path)


def collate(case: Case, chosen: list[dict[str, Any]], *, evaluated: bool = False) -> Batch:
    """A batch as a task collates it, with the seeds of an evaluation or with one for all; the
    token-weighted toy does it here."""
    if case.options:
        seeds = np.zeros(len(chosen), np.int64)
        if evaluated:
            seeds = sample_seeds(np.arange(len(chosen)), seed=0, epoch=0)
        return to_tensors(codec_of(case).collate(chosen, seeds.tolist()))
    plain = [{**row, "label": np.int64(0), "weight": np.float64(1)} for row in chosen]
    batch = codec_of(CASES["class"]).collate(plain, [0] * len(chosen))
    length = batch.inputs["input_ids"].shape[1]
    tags = np.full((len(chosen), length), -100)
    weights = np.zeros((len(chosen), length))
    for place, row in enumerate(chosen):
        tags[place, : len(row["tags"])] = row["tags"]
        weights[place, : len(row["tags"])] = np.where(row["tags"] == -100, 0.0, row["weights"])
    targets = {"tags": tags, "weights": weights}
    return to_tensors(replace(batch, targets=targets, count=float(weights.sum())))


def build_module(case: Case, dtype: torch.dtype) -> StepModule:
    """The from-scratch Transformer, dropout off, the same weights in every process."""
    torch.manual_seed(5)
    codec = codec_of(case)
    head = codec.head if case.options else HeadSpec(size=3, level="token")
    if isinstance(case.options, ClmConfig | MlmConfig):
        objective: Objective = VocabularyObjective(case.options, codec.schema)
        return StepModule(language.tiny(codec), objective, head).to(dtype)
    model = build_transformer(
        TransformerConfig(layers=2, hidden=16, heads=2, dropout=0.0),
        head,
        codec.vocabulary,
        weights=True,
    )
    if isinstance(case.options, Seq2SeqConfig):
        objective = VocabularyObjective(case.options, codec.schema)
    elif isinstance(case.options, SequenceConfig):
        objective = SequenceObjective(case.options, codec.schema)
    else:
        objective = TokenObjective(case.options, codec.schema) if case.options else WeightedTokens()
    return StepModule(model, objective, head).to(dtype)


def plain_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The model's logits; those of a text's windows averaged one sample after the other."""
    logits = worked_out(call(model, batch.inputs))
    if batch.rows is None or logits.ndim > 2:
        return logits
    parts = logits.split(batch.rows.tolist())
    return torch.stack([part.mean(dim=0) for part in parts])
