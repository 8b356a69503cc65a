"""Options of the model `transformer`, and what it brings along before anything heavy is loaded."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from nlpkit import ComponentConfig, FolderOrId


class TransformerConfig(ComponentConfig):
    """`layers` blocks of encoder or decoder; the defaults suit some ten thousand short texts."""

    pretrained: FolderOrId | None = Field(
        None, description="The run of a transformer, whose weights and sizes it begins with."
    )
    layers: PositiveInt = Field(4, description="Blocks, one on top of the other.")
    decoder_layers: PositiveInt | None = Field(
        None, description="Those of a decoder beside an encoder; null: as many as layers."
    )
    hidden: PositiveInt = Field(
        256, description="Width of the residual stream; a multiple of heads."
    )
    heads: PositiveInt = Field(4, description="Attention heads of a block.")
    feed_forward: PositiveInt | None = Field(
        None, description="Width inside a feed-forward layer; null: 4 × hidden."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="Share dropped from embeddings, attention, every sublayer and the head."
    )
    positions: Literal["sinusoidal", "learned", "rotary"] | None = Field(
        None,
        description="How a token knows where it stands; null: rotary where text is written, else "
        "sinusoidal.",
    )
    norm: Literal["pre", "post"] = Field(
        "pre", description="Layer norm before each sublayer, or after it as in the paper."
    )
    pooling: Literal["mean", "cls"] = Field(
        "mean", description="A text is the mean of its tokens, or its first one."
    )
    tied: bool = Field(
        True, description="Whether what is written comes from the same table as what is read."
    )

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> Self:
        if self.hidden % self.heads:
            nearest = self.heads * max(1, round(self.hidden / self.heads))
            raise ValueError(
                f"hidden {self.hidden} is not a multiple of heads {self.heads}; try {nearest}"
            )
        if self.positions == "rotary" and self.odd:
            raise ValueError(
                f"rotary positions turn pairs of dimensions, and a head has {self.hidden} / "
                f"{self.heads}, which is odd; change heads or hidden"
            )
        return self

    @property
    def odd(self) -> bool:
        """Whether a head's dimensions are no pairs, so that positions cannot be rotary."""
        return self.hidden // self.heads % 2 == 1

    def completed(self, level: str) -> Self:
        """With the sizes that it has for a head of this level where they are null."""
        usual = "rotary" if level == "next" and not self.odd else "sinusoidal"
        inner, positions = self.feed_forward or 4 * self.hidden, self.positions or usual
        return self.model_copy(update={"feed_forward": inner, "positions": positions})
