"""Options of the task `seq2seq`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nlpkit.config.schema import ComponentConfig
from nlpkit_tasks.options import Generate


class Seq2SeqConfig(ComponentConfig):
    """A text that is written by another: translation, and what else has a source."""

    source: str = Field("source", description="The column of the texts that are read.")
    target: str = Field("target", description="The column of the texts that are written.")
    max_target_length: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Tokens of a target at most, its end included; what follows is cut off. null: "
        "tokenizer.max_length, which it cannot exceed.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of a target that is spread over all tokens of the vocabulary."
    )
    bleu: Literal["auto", "13a", "zh", "ja-mecab", "char"] | None = Field(
        "auto",
        description="How sacrebleu divides texts into words; auto: zh where training targets are "
        "mostly Han, else 13a; null: without BLEU and chrF.",
    )
    generate: Generate = Field({})

    @model_validator(mode="after")
    def _two_columns(self) -> Self:
        if self.source == self.target:
            raise ValueError(f'source and target are the same column, "{self.source}"')
        return self
