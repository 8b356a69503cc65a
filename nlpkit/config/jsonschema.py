"""The JSON Schema of a config, with the options of every installed component, for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlpkit.config.resolve import IMPLIED, KINDS
from nlpkit.config.schema import Config
from nlpkit.errors import PluginError
from nlpkit.plugin.host import load

if TYPE_CHECKING:
    from nlpkit.plugin.host import Host
    from nlpkit.plugin.records import Record

Json = dict[str, Any]


def config_schema(host: Host) -> Json:
    """A JSON Schema (draft 2020-12) of the configs that the installed components understand.

    Where a component is chosen, it has one alternative for each component: its name alone, or a
    mapping with its options. What a config brings by `plugins` is not known to it.
    """
    schema = Config.model_json_schema()
    definitions: Json = schema["$defs"]
    for field in schema["properties"].values():
        if "description" not in field:  # a section, whose class has the words
            field["description"] = definitions[field["$ref"].rpartition("/")[2]]["description"]
    frames = {}
    for section, kind in KINDS.items():
        field = schema["properties"][section]
        place = field["items"] if field.get("type") == "array" else field
        frame = place.pop("$ref").rpartition("/")[2]
        frames[frame] = definitions[frame]
        named = frames[frame]["properties"]["name"]
        default = "" if section in IMPLIED else named.get("default")
        place["oneOf"] = _alternatives(kind, frames[frame], default, host, definitions)
    schema["$defs"] = {key: item for key, item in definitions.items() if key not in frames}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _alternatives(
    kind: str, frame: Json, default: str | None, host: Host, definitions: Json
) -> list[Json]:
    names, mappings = [], []
    for entry in host.entries(kind):
        record = entry.record
        options = _options(record, definitions)
        required = set(options.get("required", ()))
        if kind == "tokenizer":
            required -= {"pretrained"}  # it has the model's
        if not required:
            names.append(record.name)
        if record.name != default:
            required |= {"name"}
        own = {"name": {"const": record.name, "description": record.summary}}
        mappings.append(_mapping(frame, options, own, sorted(required)))
    alternatives = [{"enum": sorted(set(names))}, *mappings] if names else mappings
    if default == "":  # the name follows from another component, or from the options
        every = [_options(entry.record, definitions) for entry in host.entries(kind)]
        properties: Json = {}
        for key, option in (pair for each in every for pair in each.get("properties", {}).items()):
            words = {"description": option.get("description", ""), **properties.get(key, {})}
            properties[key] = {**words, "anyOf": [*words.get("anyOf", ()), option]}
        nameless = _mapping(frame, {"properties": properties}, {}, [])
        del nameless["properties"]["name"]
        alternatives.append(nameless)
    return alternatives


def _mapping(frame: Json, options: Json, own: Json, required: list[str]) -> Json:
    properties = {**frame["properties"], **options.get("properties", {}), **own}
    unknown = options.get("additionalProperties", False)
    mapping: Json = {"type": "object", "properties": properties, "additionalProperties": unknown}
    return {**mapping, "required": required} if required else mapping


def _options(record: Record, definitions: Json) -> Json:
    """The schema of a record's options; its own definitions are moved to the others."""
    if not record.config:
        return {}
    prefix = f"{record.kind}.{record.name}."
    try:
        options: Json = load(record, record.config).model_json_schema(
            ref_template=f"#/$defs/{prefix}{{model}}"
        )
    except PluginError:  # `nlpkit plugins` names it
        return {"additionalProperties": True}
    definitions.update({prefix + key: item for key, item in options.pop("$defs", {}).items()})
    return options
