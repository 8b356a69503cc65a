"""Options of the strategies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from nlpkit.config.schema import ComponentConfig


def _ordered(devices: list[int]) -> list[int]:
    least, most = devices
    if least > most:
        raise ValueError(f"the first number is the smaller one; try [{most}, {least}]")
    return devices


Between = Annotated[list[PositiveInt], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
"""The least and the most."""


class DdpConfig(ComponentConfig):
    """One process for each device."""

    devices: Literal["all"] | PositiveInt | Between = Field(
        "all",
        description="How many; all: every visible GPU, or 1 process on a CPU; [2, 4]: 2 to 4, as "
        "many as are free when the run begins or goes on.",
    )


class DataParallelConfig(ComponentConfig):
    """Several GPUs for one process; `ddp` is the better choice."""

    devices: Literal["all"] | PositiveInt = Field(
        "all", description="How many, at least 2; all: every visible GPU."
    )
