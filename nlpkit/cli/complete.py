"""What a shell completes beside commands and options; imported when a shell asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from nlpkit.bundle.format import DESCRIPTION
from nlpkit.config.jsonschema import config_schema
from nlpkit.environment import runs_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

    from nlpkit.plugin.host import Host


def runs(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Run folders where runs go, and any folder."""
    marks = sorted(runs_folder().glob(f"*/bundle/{DESCRIPTION}"))
    folders = _beginning(begun, (str(mark.parents[1]) for mark in marks))
    return folders or [CompletionItem(begun, type="dir")]


def formats(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What a run can be exported to."""
    return _beginning(begun, (each.record.name for each in _host(context).entries("exporter")))


def keys(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The dotted keys of a config, with the options of every component."""
    schema, found = config_schema(_host(context)), set()
    for section, part in schema["properties"].items():
        part = schema["$defs"].get(part.get("$ref", "").rpartition("/")[2], part)
        inner = [part, *part.get("oneOf", ())]
        options = {name for each in inner for name in each.get("properties", {})}
        found |= {f"{section}.{name}=" for name in options}
        if not options or "oneOf" in part:
            found.add(f"{section}=")
    return _beginning(begun, sorted(found))


def _host(context: click.Context) -> Host:
    host: Host = context.find_root().command.host  # type: ignore[attr-defined]
    return host


def _beginning(begun: str, values: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(value) for value in values if value.startswith(begun)]
