"""Options of the strategies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from nlpkit.config.schema import ComponentConfig


class DdpConfig(ComponentConfig):
    """One process for each device."""

    devices: Literal["all"] | PositiveInt = Field(
        "all", description="How many; all: every visible GPU, or 1 process on a CPU."
    )


class DataParallelConfig(ComponentConfig):
    """Several GPUs for one process; `ddp` is the better choice."""

    devices: Literal["all"] | PositiveInt = Field(
        "all", description="How many, at least 2; all: every visible GPU."
    )
