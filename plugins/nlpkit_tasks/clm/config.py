"""Options of the task `clm`."""

from __future__ import annotations

from pydantic import Field

from nlpkit.config.schema import ComponentConfig
from nlpkit_tasks.options import Generate


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
    generate: Generate = Field({})
