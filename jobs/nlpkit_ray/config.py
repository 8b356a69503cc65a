"""Options of the launcher `ray`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from nlpkit.config.schema import ComponentConfig, Location

PRIORITIES = ("low", "normal", "high")
"""From the last to the first."""
_SECRET = re.compile(r"secret|token(?!iz)|passw|credential|(^|_)(api_?)?key(_|$)", re.IGNORECASE)
_OURS = ("RAY_", "NLPKIT_", "CUDA_VISIBLE_DEVICES", "PYTHONPATH")


def _plain(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if _SECRET.search(name):
            raise ValueError(
                f"everybody who reaches the cluster can read {name} here; name it in "
                "launch.secrets, and set it where the cluster's nodes are started"
            )
        if name.startswith(_OURS):
            raise ValueError(f"{name} is not a job's to set")
    return env


class RayConfig(ComponentConfig):
    """Ranks on a pool of GPUs, under Ray Train."""

    gpus_per_worker: NonNegativeFloat = Field(
        1.0, description="GPUs of each process; 0: one CPU each, and no GPU."
    )
    storage: Location | None = Field(
        None, description="A folder that all nodes share, or an fsspec URL; for run folders."
    )
    max_failures: NonNegativeInt = Field(
        3, description="How often the processes are started again after one of them died."
    )
    priority: Literal["low", "normal", "high"] = Field(
        "normal", description="Who waits goes by priority first, then by time."
    )
    user: str | None = Field(None, description="null: NLPKIT_USER, else the login name.")
    max_hours: PositiveFloat | None = Field(
        None, description="Training is saved and stopped after this long."
    )
    env: Annotated[dict[str, str], AfterValidator(_plain)] = Field(
        {}, description="Environment variables of the job, readable by all who reach the cluster."
    )
    secrets: list[str] = Field(
        [], description="Variables that the job needs from the environment of the nodes."
    )
