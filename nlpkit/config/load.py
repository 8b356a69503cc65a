"""Reads a config: a YAML file or a mapping, with overrides. Phase 1: the frame (see `resolve`)."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nlpkit.config import overrides as overriding
from nlpkit.config import strict_yaml
from nlpkit.config.explain import Complaint, explain, unknown_key
from nlpkit.config.resolve import IMPLIED, implied, resolve
from nlpkit.config.schema import BY_NAME, Config, KeyPath, Origin
from nlpkit.environment import working_folder
from nlpkit.errors import ConfigError, Problem, shorten
from nlpkit.plugin.host import Host
from nlpkit.secrets import has_password

_LARGEST = 1 << 20  # bytes of a file


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Reads and checks the frame of a config; relative locations become absolute.

    Args:
        source: A YAML file, or a mapping, whose locations count from the working folder.
        overrides: Dotted assignments such as `train.epochs=1`, applied all together.

    Raises:
        ConfigError: With every problem of the frame, and then of the components' options too; where
            the frame is sound, these are `resolve`'s to find.
        InputError: The working folder was removed.
    """
    working_folder()
    if isinstance(source, Mapping):
        problems: list[Problem] = []
        tree, origin = _plain(source, (), problems), Origin()
    elif isinstance(source, str | os.PathLike):
        tree, origin, problems = _read(source)
    else:
        raise _fault("", f"a config is a file or a mapping, not {shorten(repr(source))}")
    chosen, faults = overriding.parse(overrides)
    if problems or faults:
        raise ConfigError([*problems, *faults])
    tree, faults = overriding.apply(_with_names(tree), chosen)
    tree = _with_names(tree)
    origin = Origin(origin.file, origin.base, _addresses(origin, chosen))
    faults += [_password(path, origin) for path in _passwords(tree, ())]
    try:
        config = Config.model_validate_json(json.dumps(tree), context={"base": origin.base})
    except ValidationError as error:
        complaints = explain(error, Config, tree)
        faults = [*faults, *_problems(complaints, origin)]
        _check_the_rest(tree, complaints, origin, faults)
        raise ConfigError(faults) from None
    if faults:
        raise ConfigError(faults)
    return config.with_origin(origin)


def dump_config(config: Config) -> str:
    """The config as YAML that `load_config` reads back to an equal config."""
    return strict_yaml.write(config.model_dump())


def _read(source: str | Path) -> tuple[dict[str, Any], Origin, list[Problem]]:
    file = os.fspath(source)
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(_LARGEST + 1)
    except FileNotFoundError:
        raise _fault(file, "there is no such file", "`nlpkit init` writes one") from None
    except IsADirectoryError:
        raise _fault(file, "is a folder, not a config file") from None
    except (OSError, ValueError) as error:
        raise _fault(file, f"cannot be read: {error}") from None
    if len(content) > _LARGEST:
        raise _fault(file, "is larger than 1 MiB, so it is no config")
    try:
        document = strict_yaml.read(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _fault(file, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    addresses = {path: f"{file}:{line}" for path, line in document.lines.items()}
    origin = Origin(file, Path(file).absolute().parent, addresses)
    problems = [
        Origin(f"{file}:{fault.line}").problem(fault.path, fault.message, fault.remedy)
        for fault in document.faults
    ]
    if not problems and not isinstance(document.value, dict):
        what = "is empty" if document.value is None else "is not a mapping of keys"
        raise _fault(file, what, "`nlpkit init` writes a config to start from")
    return document.value, origin, problems


def _addresses(origin: Origin, overrides: Sequence[overriding.Override]) -> dict[KeyPath, str]:
    addresses = dict(origin.addresses)
    for override in overrides:
        for end in range(1, len(override.path)):
            addresses.setdefault(override.path[:end], override.address)
        replaced = [path for path in addresses if path[: len(override.path)] == override.path]
        for path in replaced:  # what the file has there is no more
            del addresses[path]
        addresses[override.path] = override.address
    return addresses


def _fault(file: str, message: str, remedy: str = "") -> ConfigError:
    return ConfigError([Problem(address=file, message=message, remedy=remedy)])


def _plain(value: Any, path: KeyPath, problems: list[Problem]) -> Any:
    """Python values as YAML would have given them: text keys, lists, plain numbers."""
    if hasattr(value, "tolist"):  # numpy's
        value = value.tolist()
    if isinstance(value, Mapping) and len(path) < strict_yaml.DEEPEST:
        keys = {key: _key(key) for key in value}
        if None in keys.values():
            problems.append(Origin().problem(path, "has a key that is not text"))
        return {
            text: _plain(value[key], (*path, text), problems)
            for key, text in keys.items()
            if text is not None
        }
    if isinstance(value, list | tuple) and len(path) < strict_yaml.DEEPEST:
        return [_plain(item, (*path, at), problems) for at, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str) and not strict_yaml.SURROGATE.search(value):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and not math.isnan(value):
        return float(value)
    problems.append(Origin().problem(path, f"{shorten(repr(value))} has no place in a config"))
    return None


def _with_names(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree, in which components that have options only are named."""
    named = dict(tree)
    for section in IMPLIED:
        options = tree.get(section)
        if isinstance(options, dict) and "name" not in options:
            named[section] = {"name": implied(section, options, Host.discover()), **options}
    return named


def _passwords(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Where a config's tree has a URL with a password, or a token."""
    if isinstance(value, str) and has_password(value):
        yield path
    elif isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _passwords(each, (*path, key))


def _password(path: KeyPath, origin: Origin) -> Problem:
    remedy = BY_NAME
    if path[0] == "launch":  # what it starts is elsewhere, and so is its environment
        remedy = "set credentials where the nodes are started, before ray start"
    return origin.problem(path, "the URL shows a password or a token before its @", remedy)


def _key(key: Any) -> str | None:
    number = isinstance(key, Integral) and not isinstance(key, bool)
    return str(key) if isinstance(key, str) or number else None


def _problems(complaints: Sequence[Complaint], origin: Origin) -> list[Problem]:
    """Complaints with addresses; missing keys are named together."""
    problems = []
    missing = [complaint for complaint in complaints if complaint.kind == "missing"]
    top = [str(complaint.path[0]) for complaint in missing if len(complaint.path) == 1]
    if len(top) > 1:
        keys = f"{', '.join(top[:-1])} and {top[-1]} are missing"
        problems.append(Problem(address=origin.file, message=keys, remedy="give each a value"))
        complaints = [item for item in complaints if item.kind != "missing" or len(item.path) > 1]
    for complaint in complaints:
        if complaint.kind == "extra_forbidden":
            complaint = unknown_key(complaint.path, _choices(complaint.path))
        problems.append(origin.problem(complaint.path, complaint.message, complaint.remedy))
    return problems


def _check_the_rest(
    tree: dict[str, Any], complaints: Sequence[Complaint], origin: Origin, found: list[Problem]
) -> None:
    """Raises what was found with what is wrong with the options of components too."""
    sound = {"name": "unnamed", **copy.deepcopy(tree)}
    for complaint in complaints:
        part: Any = sound
        for key in complaint.path[:-1]:
            inner = part.get(key)
            if not isinstance(inner, dict):
                break
            part = inner
        else:
            key = complaint.path[-1]
        part.pop(key, None)
    with suppress(ValidationError):  # then it cannot be told: the model is missing, say
        config = Config.model_validate_json(json.dumps(sound), context={"base": origin.base})
        resolve(config.with_origin(origin), Host.discover(), found=found)


def _choices(path: KeyPath) -> Sequence[str]:
    if len(path) == 1:
        return list(Config.model_fields)
    return list(type(Config.model_fields[str(path[0])].default).model_fields)
