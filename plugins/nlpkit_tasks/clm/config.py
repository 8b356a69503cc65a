"""Options of the task `clm`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from nlpkit.config.schema import ComponentConfig
from nlpkit.engine.settings import Settings


class ClmConfig(ComponentConfig):
    """The next token of a text, from all before it: what writes texts."""

    text: str = Field("text", description="The column of the text.")
    prompt: str | None = Field(
        None,
        description="A column that the text goes on from; the loss is of the text alone. null: "
        "texts begin with nothing.",
    )
    pack: bool = Field(
        True,
        description="Whether training texts that follow each other share a row where they fit; "
        "none of them sees another.",
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
