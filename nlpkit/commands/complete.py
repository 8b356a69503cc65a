"""What a shell completes beside commands and options; imported when a shell asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from nlpkit.bundle.format import DESCRIPTION
from nlpkit.config.jsonschema import config_schema
from nlpkit.environment import runs_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    """The dotted keys of a config, with the options of every component; behind a key its values."""
    schema, found = config_schema(_host(context)), dict[str, set[str]]()
    for section, part in schema["properties"].items():
        part = schema["$defs"].get(part.get("$ref", "").rpartition("/")[2], part)
        inner = [part, *part.get("oneOf", ())]
        options = [option for each in inner for option in each.get("properties", {}).items()]
        for name, option in options:
            found.setdefault(f"{section}.{name}=", set()).update(_values(option))
        if not options or "oneOf" in part:
            found[f"{section}="] = set(_values(part))
    given = [each for each in context.params[str(parameter.name)] or () if each != "="]
    if given and f"{given[-1]}=" in found:  # bash takes a key and its value apart
        return _beginning(begun, sorted(found[f"{given[-1]}="]))
    key, sign, _ = begun.partition("=")
    if sign:
        return _beginning(begun, sorted(f"{key}={value}" for value in found.get(f"{key}=", ())))
    return _beginning(begun, sorted(found))


def _values(option: Mapping[str, Any]) -> list[str]:
    """The texts that an option can be."""
    among = option.get("enum", [option[key] for key in ("const",) if key in option])
    others = [value for each in option.get("anyOf", ()) for value in _values(each)]
    return [value for value in among if isinstance(value, str)] + others


@add_completion_class
class _Bash(BashComplete):
    """Sets no blank behind a key, whose value follows."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value); [[ $value == *= ]] && compopt -o nospace"
    )


def _host(context: click.Context) -> Host:
    host: Host = context.find_root().command.host  # type: ignore[attr-defined]
    return host


def _beginning(begun: str, values: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(value) for value in values if value.startswith(begun)]
