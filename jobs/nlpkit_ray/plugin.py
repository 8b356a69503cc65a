"""Runs on a pool of GPUs that many people share: Ray starts the processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMANDS = {
    "submit": (
        "submit:command",
        "Train on a Ray cluster what a config describes",
        "config.yaml --wait",
    ),
    "jobs": ("jobs:jobs", "List the jobs of a cluster", ""),
    "status": ("jobs:status", "Say how a job stands", "ID"),
    "logs": ("jobs:logs", "Show what a job writes", "ID --follow"),
    "stop": ("jobs:stop", "Have a job save and leave", "ID"),
    "fetch": ("jobs:fetch", "Bring the run folder of a job here", "ID"),
    "pool": ("pool:command", "Show a cluster's GPUs, and who waits for them", "--watch"),
}


@nlpkit.hookimpl
def nlpkit_launchers() -> Iterator[nlpkit.LauncherRecord]:
    """The launcher of a Ray cluster."""
    yield nlpkit.LauncherRecord(
        name="ray",
        target="nlpkit_ray.launcher:RayLauncher",
        config="nlpkit_ray.config:RayConfig",
        summary="A Ray cluster, or a Ray of this machine for the run",
        extra="ray",
        remote=True,
    )


@nlpkit.hookimpl
def nlpkit_commands() -> Iterator[nlpkit.CommandRecord]:
    """What is asked of a cluster."""
    for name, (target, summary, example) in _COMMANDS.items():
        yield nlpkit.CommandRecord(
            name=name,
            target=f"nlpkit_ray.commands.{target}",
            summary=summary,
            extra="ray",
            group="On a cluster",
            example=f"nlpkit {name} {example}".rstrip(),
        )
