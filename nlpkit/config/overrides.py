"""Overrides `KEY=VALUE`: dotted keys and YAML values, applied to a config's tree all together."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nlpkit.config import strict_yaml
from nlpkit.config.schema import Component, Config, dotted
from nlpkit.errors import Problem, shorten
from nlpkit.secrets import shown

if TYPE_CHECKING:
    from nlpkit.config.schema import KeyPath


@dataclass(frozen=True)
class Override:
    """One value for one path; `text` is what was typed."""

    text: str
    path: KeyPath
    value: Any

    @property
    def address(self) -> str:
        """Where an error says that it stands."""
        return f"override {shorten(shown(self.text))}"

    def problem(self, message: str, remedy: str = "") -> Problem:
        """A problem with this override."""
        return Problem(address=self.address, key=dotted(self.path), message=message, remedy=remedy)


def parse(texts: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """Overrides with one value each, and what is wrong with the others.

    A mapping or a name for a section is the same as dotted keys in it: `model=bert` is
    `model.name=bert`.
    """
    overrides: dict[KeyPath, Override] = {}
    problems = []
    for text in texts:
        key, equals, written = text.partition("=")
        path = tuple(key.strip().split("."))
        document = strict_yaml.read(json.dumps(written) if _is_sign(written) else written)
        problem = Override(text, path, None).problem
        if not equals or not all(path):
            problems.append(Override(text, (), None).problem("is not KEY=VALUE"))
        elif document.faults:
            problems += [problem(fault.message, fault.remedy) for fault in document.faults]
        else:
            for override in _spread(Override(text, path, document.value)):
                clash = _clash(override, overrides.values())
                if clash is None:
                    overrides[override.path] = override
                else:
                    problems.append(problem(f"clashes with {clash.address}", "keep one of them"))
    return list(overrides.values()), problems


def _is_sign(written: str) -> bool:
    """Whether it is one sign, such as a delimiter, which is text though YAML wants quotes."""
    return len(written) == 1 and not written.isalnum() and written != "~"


def _spread(override: Override) -> list[Override]:
    if len(override.path) > 1 or _section(override.path[0]) is None:
        return [override]
    value = override.value
    if isinstance(value, str) and issubclass(_section(override.path[0]) or BaseModel, Component):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return [override]
    return [Override(override.text, (*override.path, key), item) for key, item in value.items()]


def _section(key: str | int) -> type[BaseModel] | None:
    """The class of a frame's section, None for any other key."""
    field = Config.model_fields.get(str(key))
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _clash(override: Override, others: Iterable[Override]) -> Override | None:
    for other in others:
        shared = min(len(other.path), len(override.path))
        if other.path[:shared] == override.path[:shared] and (
            other.path != override.path or other.value != override.value
        ):
            return other
    return None


def apply(
    tree: Mapping[str, Any], overrides: Sequence[Override]
) -> tuple[dict[str, Any], list[Problem]]:
    """The tree with all overrides in it.

    Where they name another component than the tree does, the tree's own options of the old one go;
    keys that the frame reads, and other overrides, stay.
    """
    result = copy.deepcopy(dict(tree))
    for override in overrides:
        if len(override.path) == 2 and override.path[1] == "name":
            _rename(result, str(override.path[0]), override.value)
    problems = [_set(result, override) for override in overrides]
    return result, [problem for problem in problems if problem is not None]


def _rename(tree: dict[str, Any], key: str, name: Any) -> None:
    section = _section(key)
    if section is None or not issubclass(section, Component):
        return
    written = tree.get(key)
    old = {"name": written} if isinstance(written, str) else written
    if not isinstance(old, Mapping):
        return
    default = section.model_fields["name"].default
    if old.get("name", default) != name:
        old = {option: old[option] for option in old if option in section.model_fields}
    tree[key] = old


def _set(tree: dict[str, Any], override: Override) -> Problem | None:
    place: dict[str, Any] = tree
    for depth, part in enumerate(override.path[:-1], start=1):
        inner = place.get(str(part))
        section = _section(part) if depth == 1 else None
        if isinstance(inner, str) and section is not None and issubclass(section, Component):
            inner = {"name": inner}
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            name = dotted(override.path[:depth])
            if isinstance(inner, list):
                return override.problem(
                    f"{name} is a list, whose elements have no keys", f"give it whole: {name}=[…]"
                )
            return override.problem(f"{name} has a value and no keys", f"give it a value: {name}=…")
        place[str(part)] = place = inner
    place[str(override.path[-1])] = override.value
    return None
