"""Core's own plugin: the local launcher, and the commands that every installation has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlpkit.plugin.records import CommandRecord, LauncherRecord
from nlpkit.plugin.spec import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMANDS = {
    "Begin": {
        "demo": ("Train, evaluate and predict on the bundled sample", ""),
        "init": ("Write a starter project", "my-project"),
    },
    "Train": {
        "check": ("Find every problem of a config, before training", "config.yaml"),
        "train": ("Train what a config describes", "config.yaml train.epochs=5"),
        "runs": ("List the runs, and how they stand", ""),
    },
    "Use": {
        "evaluate": ("Measure a run or a bundle on other data", "runs/starter data/test.csv"),
        "predict": ("Predict texts, or a file of them", 'runs/starter "where is my parcel?"'),
        "export": ("Write a run's model in another format", "runs/starter onnx"),
    },
    "Look": {
        "plugins": ("List every component, and who gives it", "--verify"),
        "schema": ("Print the JSON Schema of a config, for editors", "> nlpkit.schema.json"),
    },
}


@hookimpl
def nlpkit_launchers() -> Iterator[LauncherRecord]:
    """The launcher of this machine."""
    yield LauncherRecord(
        name="local",
        target="nlpkit.run.launch:local_launcher",
        summary="This machine",
        extra="train",
    )


@hookimpl
def nlpkit_commands() -> Iterator[CommandRecord]:
    """The core's commands, in the order of a first visit."""
    for group, commands in _COMMANDS.items():
        for name, (summary, example) in commands.items():
            yield CommandRecord(
                name=name,
                target=f"nlpkit.commands.{name}:command",
                summary=summary,
                extra="train",  # where prediction alone is installed, the others need it
                group=group,
                example=f"nlpkit {name} {example}".rstrip(),
            )
