"""`nlpkit schema`: the JSON Schema of a config, for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlpkit.config.jsonschema import config_schema
from nlpkit.plugin.host import Host

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal


@click.command()
@click.pass_obj
def command(terminal: Terminal) -> None:
    """Print the JSON Schema of a config, with the options of every installed component.

    An editor with a YAML language server completes and checks a config whose first line is
    `# yaml-language-server: $schema=nlpkit.schema.json`.
    """
    terminal.json(config_schema(Host.discover()), indent=2)
