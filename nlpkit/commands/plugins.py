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
    listing = host.listing()
    if as_json:
        terminal.json(listing, indent=2)
    else:
        rows = [
            (each["kind"], each["name"], each["plugin"], _distribution(each), each["summary"])
            for each in listing
            if each["kind"] != "failure"
        ]
        terminal.table(_COLUMNS, rows)
        for problem in _problems(listing):
            terminal.note(f"\n{problem}")
    if verify:
        _verify(host, terminal)


def _distribution(component: dict[str, str]) -> str:
    return f"{component['distribution']} {component['version']}"


def _problems(listing: list[dict[str, str]]) -> list[str]:
    failures = [
        f"broken plugin {each['plugin']} ({_distribution(each)}): {each['error']}"
        for each in listing
        if each["kind"] == "failure"
    ]
    conflicts = {each["error"]: None for each in listing if each["kind"] != "failure"}
    return [*failures, *filter(None, conflicts)]


def _verify(host: Host, terminal: Terminal) -> None:
    for origin, seconds, heavy in host.costs:
        if heavy or seconds > _SLOW:
            what = f" ({', '.join(heavy)})" if heavy else ""
            terminal.note(
                f"warning: plugin {origin}: its import takes {seconds:.2f} s at every start{what}; "
                "import that in the functions that need it"
            )
    problems = _problems(host.listing())
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
