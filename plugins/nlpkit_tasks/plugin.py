"""Tasks: what a row means, and what is learned from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_tasks() -> Iterator[nlpkit.TaskRecord]:
    """One record for each task."""
    yield nlpkit.TaskRecord(
        name="sequence",
        target="nlpkit_tasks.sequence.task:SequenceTask",
        objective="nlpkit_tasks.sequence.objective:SequenceObjective",
        config="nlpkit_tasks.sequence.config:SequenceConfig",
        summary="Text classification and regression: labels or a number for a text or a pair",
    )
    yield nlpkit.TaskRecord(
        name="token",
        target="nlpkit_tasks.token.task:TokenTask",
        objective="nlpkit_tasks.token.objective:TokenObjective",
        config="nlpkit_tasks.token.config:TokenConfig",
        summary="Entities in a text or in a list of words (token classification, NER)",
    )
    yield nlpkit.TaskRecord(
        name="mlm",
        target="nlpkit_tasks.mlm.task:MlmTask",
        objective="nlpkit_tasks.objective:VocabularyObjective",
        config="nlpkit_tasks.mlm.config:MlmConfig",
        summary="Masked language model (MLM): words that are hidden in a text",
    )
    yield nlpkit.TaskRecord(
        name="clm",
        target="nlpkit_tasks.clm.task:ClmTask",
        objective="nlpkit_tasks.objective:VocabularyObjective",
        config="nlpkit_tasks.clm.config:ClmConfig",
        summary="Causal language model (CLM): the next token of a text, text generation",
        writes=True,
    )
    yield nlpkit.TaskRecord(
        name="seq2seq",
        target="nlpkit_tasks.seq2seq.task:Seq2SeqTask",
        objective="nlpkit_tasks.objective:VocabularyObjective",
        config="nlpkit_tasks.seq2seq.config:Seq2SeqConfig",
        summary="A text that is written by another: translation, summarization",
        writes=True,
    )
