"""Options of the model `bert`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic.json_schema import SkipJsonSchema

from nlpkit import ComponentConfig, FolderOrId


class BertOptions(ComponentConfig):
    """A pretrained encoder; its sizes are those of its config.json."""

    pretrained: FolderOrId = Field(
        description="A local folder, a run of a bert, or a model id of huggingface.co."
    )
    head: Literal["auto", "nlpkit", "transformers"] = Field(
        "auto",
        description="auto: transformers' own where the folder has one that was trained for the "
        "task; else nlpkit's, which is a linear layer.",
    )
    pooling: Literal["mean", "cls"] = Field(
        "mean", description="A text is the mean of its tokens, or its first one; nlpkit's head."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="null: what the pretrained model was made with."
    )
    freeze: list[int | str] = Field(
        [], description="What does not learn: embeddings, layers by number (from 0) or range (0-3)."
    )
    description: SkipJsonSchema[dict[str, Any] | None] = Field(
        None, description="The sizes of the pretrained model: filled in, not written by hand."
    )

    @field_validator("freeze")
    @classmethod
    def _known_parts(cls, parts: list[int | str]) -> list[int | str]:
        for part in parts:
            if part != "embeddings" and not _layers_of(part):
                raise ValueError(
                    f'"{part}" is neither embeddings nor a layer number (5) nor a range (0-3)'
                )
        return parts

    def frozen_layers(self) -> list[int]:
        """The numbers of the layers that do not learn, in order."""
        return sorted({layer for part in self.freeze for layer in _layers_of(part)})


def _layers_of(part: int | str) -> range:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", str(part))
    return range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
