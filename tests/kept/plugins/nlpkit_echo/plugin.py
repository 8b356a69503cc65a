"""A task, a tokenizer, a model and an observer, as a stranger would write them."""

from __future__ import annotations

import nlpkit


@nlpkit.hookimpl
def nlpkit_tasks():
    yield nlpkit.TaskRecord(
        name="echo_length",
        target="nlpkit_echo.task:EchoTask",
        objective="nlpkit_echo.objective:EchoObjective",
        config="nlpkit_echo.config:EchoTaskConfig",
        summary="How many words a text has; no labels needed",
    )


@nlpkit.hookimpl
def nlpkit_tokenizers():
    yield nlpkit.TokenizerRecord(
        name="echo_words",
        target="nlpkit_echo.tokenizer:build",
        summary="One token a word",
    )


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(
        name="echo_sum",
        target="nlpkit_echo.model:build",
        config="nlpkit_echo.config:EchoModelConfig",
        summary="A sum of embeddings",
        extra="train",
    )


@nlpkit.hookimpl
def nlpkit_observers():
    yield nlpkit.ObserverRecord(
        name="echo_ledger",
        target="nlpkit_echo.observer:Ledger",
        summary="Writes down what happened",
    )
