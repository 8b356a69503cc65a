"""Core's own plugin: the local launcher, and the commands that every installation has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUMMARIES = {
    "demo": "Train, evaluate and predict on the bundled sample",
    "init": "Write a starter project",
    "check": "Find every problem of a config, before training",
    "train": "Train what a config describes",
    "evaluate": "Measure a run or a bundle on other data",
    "runs": "List the runs, and how they stand",
    "predict": "Predict texts, or a file of them",
    "export": "Write a run's model in another format",
    "plugins": "List every component, and who gives it",
    "schema": "Print the JSON Schema of a config, for editors",
}


@nlpkit.hookimpl
def nlpkit_launchers() -> Iterator[nlpkit.LauncherRecord]:
    """The launcher of this machine."""
    yield nlpkit.LauncherRecord(
        name="local", target="nlpkit.launch:local_launcher", summary="This machine", extra="train"
    )


@nlpkit.hookimpl
def nlpkit_commands() -> Iterator[nlpkit.CommandRecord]:
    """The core's commands, in the order of a first visit."""
    for name, summary in _SUMMARIES.items():
        yield nlpkit.CommandRecord(
            name=name,
            target=f"nlpkit.commands.{name}:command",
            summary=summary,
            extra="train",  # where prediction alone is installed, the others need it
        )
