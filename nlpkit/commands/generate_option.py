"""The option that says how texts are written, of the commands in which models write some."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from nlpkit.config import strict_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence


class GenerateCommand(click.Command):
    """A command whose `--generate` takes several settings."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the option in front of each setting behind its first."""
        told = list[str]()
        for word in args:
            behind = told[-2:-1] == ["--generate"] and re.match("[a-z_]+=", word)
            told += ["--generate", word] if behind else [word]
        return super().parse_args(ctx, told)


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """What is said, by key."""
    found = {}
    for text in given:
        key, _, value = text.partition("=")
        document = strict_yaml.read(value)
        if not (key and value) or document.faults:
            raise click.UsageError(f"--generate {text}: is not KEY=VALUE, such as max_tokens=20")
        found[key] = document.value
    return found


generate_option = click.option(
    "--generate",
    metavar="KEY=VALUE...",
    multiple=True,
    callback=lambda _, __, given: _settings(given),
    help="How texts are written: max_tokens=20 beams=4 …",
)
