"""`nlpkit plugins`: every component, and who gives it. Light: it imports no component."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlpkit.errors import PluginError
from nlpkit.plugin.host import IMPORTS, load
from nlpkit.plugin.imports import UNREADABLE
from nlpkit.plugin.records import KINDS

if TYPE_CHECKING:
    from nlpkit.cli.render import Terminal
    from nlpkit.plugin.host import Host

_SLOW = 0.25  # seconds
_COLUMNS = ("kind", "name", "plugin", "distribution", "summary")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option(
    "--verify",
    is_flag=True,
    help="Import all that components name; name slow plugins.",
)
@click.pass_context
def command(context: click.Context, as_json: bool, verify: bool) -> None:
    """List every component, its plugin, distribution and version; broken plugins too."""
    terminal: Terminal = context.obj
    host: Host = context.find_root().command.host  # type: ignore[attr-defined]
    problems = [f"broken plugin {failure}" for failure in host.failures]
    problems += host.conflicts().values()
    if as_json:
        terminal.json(host.listing(), indent=2)
    else:
        listing = [each for each in host.listing() if each["kind"] != "failure"]
        for each in listing:
            each["distribution"] += f" {each['version']}"
        terminal.table(_COLUMNS, [[each[name] for name in _COLUMNS] for each in listing])
        for problem in problems:
            terminal.note(f"\n{problem}")
    if verify:
        _verify(host, terminal, problems)


def _verify(host: Host, terminal: Terminal, problems: list[str]) -> None:
    for origin, seconds, heavy in host.costs:
        if heavy or seconds > _SLOW:
            what = f" ({', '.join(heavy)})" if heavy else ""
            terminal.note(
                f"warning: plugin {origin}: its import takes {seconds:.2f} s at every start{what}; "
                "import that in the functions that need it"
            )
    entries = [entry for kind in KINDS for entry in host.entries(kind)]
    readable = not any(failure.message == UNREADABLE for failure in host.failures)
    for entry in entries if readable else ():  # else whatever fails has one cause
        for target in filter(None, (getattr(entry.record, name, "") for name in IMPORTS)):
            try:
                load(entry.record, target)
            except PluginError as error:
                problems.append(f"{entry.origin}: {error}")
    if problems:
        raise PluginError("\n".join(["not everything can be used:", *problems]))
    terminal.note(f"\nall {len(entries)} components can be imported")
