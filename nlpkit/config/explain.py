"""Turns pydantic's errors into sentences: what was written, and what would be right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nlpkit import secrets
from nlpkit.config.schema import Config
from nlpkit.errors import closest, shorten

if TYPE_CHECKING:
    from pydantic import ValidationError

    from nlpkit.config.schema import KeyPath


_ALIASES = {
    alias: key
    for key, aliases in {
        "batch_size": "bs train_batch_size per_device_train_batch_size",
        "model.dropout": "dropout dropout_rate dropout_prob hidden_dropout_prob",
        "early_stopping": "patience early_stopping_patience",
        "epochs": "num_epochs n_epochs num_train_epochs max_epochs",
        "model.feed_forward": "feed_forward intermediate_size dim_feedforward d_ff ffn_dim",
        "model.heads": "heads num_heads n_heads nhead num_attention_heads",
        "model.hidden": "hidden hidden_size d_model dim embed_dim hidden_dim",
        "model.layers": "layers num_layers n_layers num_hidden_layers depth",
        "learning_rate": "lr max_lr",
        "log_every": "logging_steps log_interval",
        "max_grad_norm": "clip grad_clip clip_grad_norm gradient_clip_val",
        "max_length": "max_len maxlen max_seq_length max_seq_len seq_len",
        "precision": "fp16 bf16 amp",
        "pretrained": "model_name model_name_or_path checkpoint_path",
        "schedule": "scheduler lr_scheduler lr_scheduler_type lr_schedule",
        "seed": "random_seed random_state",
        "validation": "val valid dev eval_file validation_file",
        "train": "train_file train_path",
        "test": "test_file test_path",
        "vocab_size": "vocabulary_size n_vocab",
        "warmup_ratio": "warmup warmup_proportion",
        "weight_decay": "wd l2",
        "checkpoint.every": "save_steps save_every",
        "checkpoint.keep": "save_total_limit save_top_k",
        "data.validation": "split test_size validation_split",
        "eval.every": "eval_steps eval_every",
        "eval.monitor": "metric metric_for_best_model",
        "task.label": "label label_column",
        "task.target": "task.type task_type problem_type",
        "task.text": "text text_column",
        "train.micro_batch_size": "grad_accum gradient_accumulation_steps accumulate_grad_batches",
        "workers": "num_workers dataloader_num_workers",
        "strategy.devices": "devices device_ids gpus num_gpus n_gpu nproc_per_node",
    }.items()
    for alias in aliases.split()
}
"""What other programs call a key; one with a section is meant wherever the alias stands."""
_FOLDER = ("out", "out_dir", "output", "output_dir")


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong at a path; `kind` is pydantic's name of it."""

    kind: str
    path: KeyPath
    message: str
    remedy: str = ""


def explain(error: ValidationError, model: type[BaseModel], data: Any) -> list[Complaint]:
    """What `error` says of `data`, which `model` refused: one complaint for each path."""
    complaints: dict[KeyPath, Complaint] = {}
    schema = model.model_json_schema()
    for found in error.errors(include_url=False):
        path = _path(found["loc"], data, missing=found["type"] == "missing")
        message, remedy = _sentence(found, _part(schema, path, schema))
        complaints.setdefault(path, Complaint(found["type"], path, message, remedy))
    inner = {path[:end] for path in complaints for end in range(len(path))}
    return [complaint for path, complaint in complaints.items() if path not in inner]


def guessed(key: str, choices: Iterable[str]) -> str | None:
    """The choice that a key was probably meant to be, also where another program calls it so."""
    choices = list(choices)
    _, meant = _meant(key)
    return meant if meant in choices else closest(meant, choices)


def _meant(key: str, place: str = "") -> tuple[str, str]:
    """The section that is meant, or "", and what the key is called here."""
    known = _ALIASES.get(place) or _ALIASES.get(key.casefold().replace("-", "_"))
    section, _, name = known.rpartition(".") if known else ("", "", key)
    return section, name


def unknown_key(path: KeyPath, choices: Iterable[str]) -> Complaint:
    """The complaint about a key that its mapping does not know, with what was probably meant."""
    key, choices = str(path[-1]), list(choices)
    place = ".".join(map(str, path))
    section, meant = _meant(key, place)
    guess = meant if meant in choices else closest(meant, choices)
    keys = [f"{section}.{meant}"] if section else _frame_keys(meant)
    elsewhere = [name for name in keys if name != place and section != path[0]]
    if guess is not None and guess.casefold() == meant.casefold():
        elsewhere = []
    if elsewhere:
        remedy = f"the key is {' or '.join(elsewhere)}"
    elif key in _FOLDER:
        remedy = "out=DIR names the folder of a run"
    elif guess is not None:
        remedy = f'did you mean "{guess}"?'
    else:
        known = sorted(choices)
        remedy = f"there are {', '.join(known)}" if known else "it takes no options"
    return Complaint("extra_forbidden", path, "unknown key", remedy)


def _frame_keys(key: str) -> Iterator[str]:
    if key in Config.model_fields:
        yield key
        return
    for section, field in Config.model_fields.items():
        if isinstance(field.default, BaseModel) and key in type(field.default).model_fields:
            yield f"{section}.{key}"


def _path(location: Sequence[str | int], data: Any, *, missing: bool) -> KeyPath:
    """pydantic's location without the names of the branches of unions."""
    path: list[str | int] = []
    for part in location:
        inside = isinstance(data, Mapping) and part in data
        if inside or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
            path.append(part)
    return (*path, location[-1]) if missing else tuple(path)


def _sentence(found: Mapping[str, Any], schema: Mapping[str, Any] | None) -> tuple[str, str]:
    if found["type"] == "missing":
        about = (schema or {}).get("description", "").rstrip(".")
        return "missing", about[:1].lower() + about[1:] or "give it a value"
    if found["type"] == "value_error":
        return str(found["ctx"]["error"]), ""
    if schema is None:
        return str(found["msg"]), ""
    value = found["input"]
    remedy = ""
    if isinstance(value, str) and schema.get("type") == "array":
        remedy = f"write [{value}]"
    elif value is None and schema.get("type") == "object":
        remedy = "remove the key, or give it values"
    return f"{shown(value)} is not {describe(schema)}", remedy


def shown(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, str):
        return f'"{shorten(secrets.shown(value))}"'
    text = secrets.shown(json.dumps(value, ensure_ascii=False))
    return shorten(text).replace("Infinity", ".inf")


def _part(schema: Mapping[str, Any], path: KeyPath, root: Mapping[str, Any]) -> Any:
    """The part of a JSON Schema that a path's value has to fit, with its reference followed."""
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
        del schema["$ref"]
    if "anyOf" in schema:
        branches = (_part(branch, path, root) for branch in schema["anyOf"])
        parts = [branch for branch in branches if branch is not None]
        if not path:
            return {**schema, "anyOf": parts}
        return parts[0] if parts else None
    if not path:
        return schema
    key, rest = path[0], path[1:]
    inner = schema.get("items") if isinstance(key, int) else schema.get("properties", {}).get(key)
    inner = schema.get("additionalProperties") if inner is None else inner
    return _part(inner, rest, root) if isinstance(inner, Mapping) else None


def describe(schema: Mapping[str, Any]) -> str:
    """What a JSON Schema asks for, as the end of a sentence."""
    *others, last = dict.fromkeys(_alternatives(schema))
    return f"{', '.join(others)} or {last}" if others else last


def _alternatives(schema: Mapping[str, Any]) -> list[str]:
    if "anyOf" in schema:
        return [choice for branch in schema["anyOf"] for choice in _alternatives(branch)]
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if choices:
        return [str(choice) for choice in choices]
    kind = schema.get("type")
    if schema.get("title") == "Secret":
        return ["{env: NAME}"]
    if kind == "boolean":
        return ["true", "false"]
    if kind in ("integer", "number"):
        return [("a whole number" if kind == "integer" else "a number") + _bounds(schema)]
    if kind == "string":
        return [_text(schema)]
    if kind == "object" and "name" in schema.get("properties", {}):
        return ["a name", "a mapping"]
    names = {"object": "a mapping", "array": "a list", "null": "null"}
    return [names.get(str(kind), "a value that fits")]


def _text(schema: Mapping[str, Any]) -> str:
    if "pattern" in schema:
        return str(schema.get("description", f"text like {schema['pattern']}"))
    if schema.get("format") == "path":
        return "a path"
    return "text that is not empty" if schema.get("minLength") else "text"


def _bounds(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {_number(schema['minimum'])} to {_number(schema['maximum'])}"
    words = {
        "exclusiveMinimum": "above",
        "minimum": "of at least",
        "exclusiveMaximum": "below",
        "maximum": "of at most",
    }
    parts = [f"{word} {_number(schema[key])}" for key, word in words.items() if key in schema]
    return f" {' and '.join(parts)}" if parts else ""


def _number(value: float) -> str:
    return str(int(value) if value == int(value) else value)
