"""Options of the task `token`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nlpkit.config.schema import ComponentConfig


class TokenConfig(ComponentConfig):
    """Entities in a text or in a list of words: where they stand, and of which type they are."""

    text: str = Field("text", description="The column: a text, or a list of words.")
    label: str = Field(
        "label",
        description="The column of the target: a tag for each word (BIO, IOB1 or BIOES), or of a "
        "text its spans, [{start, end, label}] in characters.",
    )
    long_text: Literal["window", "truncate"] = Field(
        "window",
        description="What becomes of a text that is longer than tokenizer.max_length. window: it "
        "is read in overlapping windows, and nothing is lost; truncate: its end is cut off.",
    )
