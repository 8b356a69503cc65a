"""YAML 1.2, read strictly: what looks like text is text, and every value knows its line.

Numbers are decimal without leading zeros or underscores, only `true` and `false` are booleans,
`null`, `~` and nothing are null, keys of mappings are text. ruamel.yaml parses; what a scalar means
is said here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

if TYPE_CHECKING:
    from nlpkit.config.schema import KeyPath

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}
_WORDS |= {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf}
_PLAIN = re.compile(r"[A-Za-z_/][\w/.+@-]*( [\w/.+@-]+)*", re.ASCII)
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
SURROGATE = re.compile("[\ud800-\udfff]")
_STR_TAG = "tag:yaml.org,2002:str"
_VALUES = (AliasEvent, ScalarEvent, MappingStartEvent, SequenceStartEvent)
_MOST_VALUES = 100_000
DEEPEST = 50
"""Levels of a config."""
_NO_DATA = "a config names files of rows, and holds none itself"


@dataclass(frozen=True)
class Fault:
    """What is wrong at a line of the text."""

    line: int
    path: KeyPath
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Document:
    """A text that was read: its plain value, the line of every path, and what is wrong with it."""

    value: Any
    lines: Mapping[KeyPath, int]
    faults: list[Fault]


class _Broken(Exception):
    """What stops the parser; its argument is the fault."""


@dataclass(frozen=True)
class _Node:
    value: Any  # a scalar, or (line, node) pairs by key or in a list


def read(text: str) -> Document:
    """Reads one document; every fault that does not stop the parser is listed."""
    reader = _Reader(text)
    try:
        lines: dict[KeyPath, int] = {}
        value = _plain(reader.document(), (), lines)
        return Document(value, lines, reader.faults)
    except _Broken as broken:
        (fault,) = broken.args
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ": ".join(part for part in (error.context, error.problem) if part)
        fault = _no_yaml(mark.line + 1 if mark else 1, what)
    except YAMLError as error:  # a character that YAML does not allow
        before = text[: getattr(error, "position", 0)]
        fault = _no_yaml(before.count("\n") + 1, str(error).splitlines()[0])
    return Document(None, {}, [*reader.faults, fault])


def scalar(text: str) -> Any:
    """What an unquoted scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
            return number
    except ValueError:  # more digits than Python reads
        pass
    return text


class _Reader:
    """Builds nodes from ruamel.yaml's events, which still know which tags were written."""

    def __init__(self, text: str) -> None:
        self.faults: list[Fault] = []
        self._text = text
        self._anchors: dict[str, _Node] = {}
        self._events: Iterator[Event] = iter(())

    def document(self) -> _Node:
        self._events = YAML(typ="safe", pure=True).parse(self._text)
        root: _Node | None = None
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                line = event.start_mark.line + 1
                if root is not None:
                    raise _Broken(Fault(line, (), "starts a second document", "keep one"))
                if event.version not in (None, (1, 2)):
                    self.faults.append(
                        Fault(1, (), "asks for another YAML than 1.2", "remove the %YAML line")
                    )
            elif isinstance(event, _VALUES):
                root = self._node(event, ())
        return root or _Node(None)

    def _node(self, event: Any, path: KeyPath) -> _Node:
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                message = f"*{event.anchor} is not the name of an anchor"
                remedy = f"write &{event.anchor} before a value above, or quotes around a text"
                raise _Broken(Fault(line, path, message, remedy))
            return self._anchors[event.anchor]
        if len(path) > DEEPEST:
            message = f"is nested more than {DEEPEST} levels deep"
            raise _Broken(Fault(line, path[:3], message, _NO_DATA))
        tag = None if event.ctag is None else str(event.ctag)
        is_text = isinstance(event, ScalarEvent) and tag == _STR_TAG
        if tag is not None and not is_text:
            self.faults.append(
                Fault(line, path, f"has the tag {tag}", "remove it; quotes make a value text")
            )
        if isinstance(event, ScalarEvent):
            if SURROGATE.search(event.value):
                self.faults.append(Fault(line, path, "holds half of a character", "remove it"))
            plain = event.style is None and not is_text
            node = _Node(scalar(event.value) if plain else event.value)
        elif isinstance(event, MappingStartEvent):
            node = _Node(self._mapping(path))
        else:
            node = _Node(self._list(path))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _mapping(self, path: KeyPath) -> dict[str, tuple[int, _Node]]:
        items: dict[str, tuple[int, _Node]] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, ScalarEvent):
                remedy = "write key: value; a list or mapping can only be a value"
                raise _Broken(Fault(line, path, "has a key that is not text", remedy))
            key = event.value
            node = self._node(next(self._events), (*path, key))
            if key in items:
                message = f"stands twice, in lines {items[key][0]} and {line}"
                self.faults.append(Fault(line, (*path, key), message, "remove one"))
            items[key] = (line, node)
        return items

    def _list(self, path: KeyPath) -> list[tuple[int, _Node]]:
        items: list[tuple[int, _Node]] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            line = event.start_mark.line + 1
            items.append((line, self._node(event, (*path, len(items)))))
        return items


def _plain(node: _Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    """The plain value; fills `lines`. Aliases are copied, so their number has a limit."""
    if len(lines) > _MOST_VALUES:
        line = lines.get(path[:1], 1)
        message = f"holds more than {_MOST_VALUES:,} values"
        raise _Broken(Fault(line, path[:1], message, _NO_DATA))
    if isinstance(node.value, Mapping):
        lines.update({(*path, key): line for key, (line, _) in node.value.items()})
        return {key: _plain(item, (*path, key), lines) for key, (_, item) in node.value.items()}
    if isinstance(node.value, list):
        lines.update({(*path, at): line for at, (line, _) in enumerate(node.value)})
        return [_plain(item, (*path, at), lines) for at, (_, item) in enumerate(node.value)]
    return node.value


def _no_yaml(line: int, what: str) -> Fault:
    remedy = "indent with spaces, close quotes and brackets, quote text that holds ': ' or ' #'"
    return Fault(line, (), f"is not YAML: {what}", remedy)


def write(value: Mapping[str, Any]) -> str:
    """A mapping of plain values as YAML that `read` gives back unchanged."""
    return "".join(_block(value, 0))


def _block(value: Mapping[str, Any], indent: int) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield f"{' ' * indent}{_text(key)}:\n"
            yield from _block(item, indent + 2)
        else:
            yield f"{' ' * indent}{_text(key)}: {_flow(item)}\n"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_text(key)}: {_flow(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    return json.dumps(value)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and isinstance(scalar(value), str):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
