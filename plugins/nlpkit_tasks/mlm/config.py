"""Options of the task `mlm`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nlpkit.config.schema import ComponentConfig


class MlmConfig(ComponentConfig):
    """Tokens that are hidden in a text, from those around them: what encoders begin with."""

    text: str = Field("text", description="The column of the text.")
    masked: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15, description="The share of the tokens that are to be told, other ones each time."
    )
    whole_words: bool = Field(
        False, description="Whether all tokens of a word are hidden together."
    )
    pack: bool = Field(
        True,
        description="Whether training texts that follow each other share a row where they fit; "
        "none of them sees another.",
    )
