"""`nlpkit export`: a run's model in another format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlpkit.bundle.export import export
from nlpkit.commands.complete import formats, runs
from nlpkit.config.overrides import parse
from nlpkit.errors import ConfigError
from nlpkit.signals import interruptible

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal
    from nlpkit.contracts import Artifact


def told(artifact: Artifact) -> str:
    """What the gate found, and what the exporter has to say."""
    parity = artifact.parity
    shapes, texts = len(parity["shapes"]), parity["texts"]
    line = (
        f"parity: at most {parity['difference']:.1e} apart on {shapes} shapes and {texts:,} texts"
    )
    if parity["agreement"] is not None:
        line += f", {parity['agreement']:.1%} of the predictions equal"
    if metric := parity.get("metric"):
        line += f", {metric['name']} {metric['before']:.4f} before and {metric['after']:.4f} after"
    return f"{line}\n{artifact.note}" if artifact.note else line


@click.command("export")
@click.argument("run", shell_complete=runs)
@click.argument("format_name", metavar="FORMAT", shell_complete=formats)
@click.argument("options", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--out", metavar="DIR", help="Where to; default: bundle/FORMAT/ of the run.")
@click.option("--trust-plugins", is_flag=True, help="Execute the plugins that a bundle brings.")
@click.pass_obj
def command(
    terminal: Terminal, /, run: str, format_name: str, options: tuple[str, ...], **own: Any
) -> None:
    """Write the model of RUN (a run folder or a bundle) as FORMAT.

    `nlpkit plugins` lists the formats (kind exporter).
    """
    overrides, problems = parse(options)
    if problems:
        raise ConfigError(problems)
    values = {".".join(map(str, override.path)): override.value for override in overrides}
    if taken := values.keys() & {"run", "format", "terminal", *own}:
        raise click.UsageError(f"{', '.join(taken)}: a format has no such option; see --help")
    with interruptible():
        artifact = export(run, format_name, terminal=terminal, **own, **values)
    for path in artifact.files:
        terminal.say(str(path))
    terminal.note(told(artifact))
