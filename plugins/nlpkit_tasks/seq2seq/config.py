"""Options of the task `seq2seq`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nlpkit.config.schema import ComponentConfig
from nlpkit.engine.settings import Settings


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
    bleu: Literal["13a", "zh", "ja-mecab", "char"] | None = Field(
        "13a", description="How sacrebleu divides texts into words; null: without BLEU and chrF."
    )
    generate: dict[str, Any] = Field(
        {},
        description="How texts are written where nothing else is asked: {max_tokens: 128, method: "
        "greedy | sample | beam, beams: 4, length_penalty: 0.6, temperature: 1.0, top_k: null, "
        "top_p: null, stop: [], seed: 13}.",
    )

    @field_validator("generate")
    @classmethod
    def _can_be_had(cls, values: dict[str, Any]) -> dict[str, Any]:
        Settings.of(values)
        return values

    @model_validator(mode="after")
    def _two_columns(self) -> Self:
        if self.source == self.target:
            raise ValueError(f'source and target are the same column, "{self.source}"')
        return self
