"""Options of the exporter `onnx`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nlpkit import ComponentConfig

Share = Annotated[float, Field(ge=0, le=1)]


class OnnxConfig(ComponentConfig):
    """How the weights are written, and what the gate asks of rounded ones."""

    quantize: Literal["none", "int8"] = Field(
        "none", description="int8: rounded weights, a quarter of the size, and faster."
    )
    min_agreement: Share = Field(
        0.98, description="The least share of validation texts whose label int8 has to keep."
    )
    max_drop: Share = Field(
        0.01, description="The most that int8 may take from the task's first metric."
    )

    @model_validator(mode="after")
    def _limits_are_for_int8(self) -> Self:
        if self.quantize == "none" and (self.min_agreement, self.max_drop) != (0.98, 0.01):
            raise ValueError("min_agreement and max_drop work with quantize: int8 only")
        return self
