"""Perplexity and bits per byte against a plain computation, and what tokens of a text are lost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from nlpkit.testing import check_task
from nlpkit_tasks.clm.config import ClmConfig
from nlpkit_tasks.metrics import BitsPerByte, Perplexity
from nlpkit_tasks.mlm.config import MlmConfig
from nlpkit_tasks.objective import VocabularyObjective
from tests.tasks.language import encoder_of, rows_of, samples, task_of, texts, tiny, tokenizer

TEXTS = [*texts(9), "Éa! 我们", " sat  on\na mat "]
SEP = 3


def evaluated(options: ClmConfig | MlmConfig, found: list[str], **columns: Any) -> dict[str, float]:
    """The metrics of a tiny model, in float64 and in batches of 3."""
    encoder = encoder_of(options, 16)
    model, objective = tiny(encoder.codec).double(), VocabularyObjective(None, {})
    pieces = [sample for sample, _ in samples(encoder, rows_of(found, **columns), "evaluate")]
    metrics = encoder.codec.metrics()
    for at in range(0, len(pieces), 3):
        part = pieces[at : at + 3]
        batch = encoder.codec.collate(part, range(at, at + len(part)))
        inputs = {name: torch.as_tensor(each) for name, each in batch.inputs.items()}
        logits = model(*(inputs[name] for name in model.inputs)).detach()
        output = objective.output(logits, {"ids": torch.as_tensor(batch.targets["ids"])}, None)
        for metric in metrics:
            metric.update(output.numpy(), batch)
    return {
        name: value for metric in metrics for name, value in metric.compute(metric.state).items()
    }


def plainly(found: list[str], prompts: list[str]) -> dict[str, float]:
    """Token after token, each piece alone."""
    encoder = encoder_of(ClmConfig(), 16)
    model, ids = tiny(encoder.codec).double(), tokenizer().encode
    nats, own, right, size = [], 0.0, 0, 0
    for text, prompt in zip(found, prompts, strict=True):
        before, after = (ids(each, add_special_tokens=False).ids for each in (prompt, text))
        document = [2, *before, *after, SEP]
        size += len(text.encode("utf-8")) - text.startswith(" ")  # which is taken for bpe's own
        for place in range(1 + len(before), len(document)):
            start = (place - 1) // 16 * 16
            seen = torch.tensor([document[start:place]])
            scores = model(seen, torch.ones_like(seen))[0, -1].log_softmax(-1)
            nats.append(-scores[document[place]].item())
            right += int(scores.argmax()) == document[place]
            own += nats[-1] if document[place] != SEP else 0.0
    return {
        "perplexity": math.exp(math.fsum(nats) / len(nats)),
        "token_accuracy": right / len(nats),
        "bits_per_byte": own / math.log(2) / size,
    }


@pytest.mark.parametrize("prompted", [False, True])
def test_perplexity_and_bits_per_byte_are_those_of_a_plain_loop(prompted):
    prompts = [text[::-1] if prompted else "" for text in TEXTS]
    options = ClmConfig(prompt="p") if prompted else ClmConfig()
    values = evaluated(options, TEXTS, p=prompts)
    assert [*values] == ["perplexity", "token_accuracy", "bits_per_byte"]
    assert values == pytest.approx(plainly(TEXTS, prompts), rel=1e-12)


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary_and_its_bits():
    codec = encoder_of(ClmConfig(), 16).codec
    batch = codec.collate(
        [{"tokens": np.array([2, 8, 9, SEP]), "context": np.int32(1), "bytes": np.int64(4)}], [0]
    )
    output = VocabularyObjective(None, {}).output(
        torch.zeros(1, 3, 64), {"ids": torch.as_tensor(batch.targets["ids"])}, None
    )
    perplexity, bits = Perplexity(), BitsPerByte(SEP)
    for metric in (perplexity, bits):
        metric.update(output.numpy(), batch)
    assert perplexity.compute(perplexity.state)["perplexity"] == pytest.approx(64)
    assert bits.compute(bits.state) == {"bits_per_byte": pytest.approx(2 * 6 / 4)}  # 6 bits a token


def test_what_has_no_targets_has_no_perplexity_and_a_hopeless_one_is_infinite():
    assert math.isnan(Perplexity().compute(np.zeros(3))["perplexity"])
    assert Perplexity().compute(np.array([1e4, 0.0, 2.0]))["perplexity"] == math.inf
    assert math.isnan(BitsPerByte(3).compute(np.zeros(2))["bits_per_byte"])


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
@pytest.mark.parametrize(
    "options",
    [
        ClmConfig(),
        ClmConfig(pack=False),
        ClmConfig(prompt="p"),
        MlmConfig(),
        MlmConfig(pack=False),
        MlmConfig(whole_words=True),
    ],
)
def test_tasks_keep_their_contracts(options, kind):
    if getattr(options, "whole_words", False) and kind == "char":
        pytest.skip("it is refused")
    rows = rows_of(TEXTS, p=[text[:5] for text in TEXTS])
    objective = VocabularyObjective(None, {})
    check_task(task_of(options), rows, objective=lambda _: objective, tokenizer=tokenizer(kind))


def test_texts_that_their_tokens_do_not_give_back_are_remarked():
    encoder = encoder_of(ClmConfig(), 16)
    rows = rows_of(["the cat", "Éa! 我们", "the\u200bcat", " the"])
    remarks = [
        [*encoder.codec.remarks(each.row, each.encodings)]
        for each in encoder.encoded(rows, "train")
    ]
    assert [len(each) for each in remarks] == [0, 0, 1, 1]  # a blank in front is taken for its own
    assert remarks[2][0][0] == "have a text that its tokens do not give back"
    lossy = encoder_of(ClmConfig(), 16, "wordpiece")
    (found,) = lossy.encoded(rows_of(["The cat"]), "train")
    assert [*lossy.codec.remarks(found.row, found.encodings)]
