"""What a cluster is asked for in tests of the preflight."""

from __future__ import annotations

from typing import Any

import nlpkit
from nlpkit_ray.config import RayConfig
from nlpkit_ray.gang import Gang

ONE, FOUR = (Gang(least=number, most=number, resource="GPU", each=1.0) for number in (1, 4))


def run(
    gang: Gang, storage: str = "/shared", data: str = "", device: str = "auto", **options: Any
) -> Any:
    """What `judge` and `preflight` are told about a run."""
    train = {"train": data} if data else "sample"
    tree = {"name": "asked", "data": train, "model": "transformer", "device": device}
    config = nlpkit.load_config(tree)
    given = RayConfig(storage=storage, **options)
    return {"config": config, "gang": gang, "options": given, "user": "ada"}
