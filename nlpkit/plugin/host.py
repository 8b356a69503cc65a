"""Finds plugins, loads each in isolation, validates what they yield, and indexes it by name.

A host is an object that is passed; there is no global one. A broken plugin costs only what it
would have given: it is remembered in `Host.failures` and named when something unknown is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pluggy

from nlpkit.errors import PluginError, closest, shorten
from nlpkit.plugin import spec
from nlpkit.plugin.imports import (
    UNREADABLE,
    damaged_distributions,
    import_file,
    import_module,
    quietly,
)
from nlpkit.plugin.records import KINDS, Record
from nlpkit.version import __version__

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_IMPORT_STRING = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
HEAVY = {"numpy", "pandas", "pyarrow", "pydantic", "ray", "tensorflow", "torch", "transformers"}
"""Modules that a plugin imports where they are used: all plugins are imported at every start."""
IMPORTS = ("target", "config", "objective", "resolve", "check", "roles")
"""The fields of records that hold import strings; all but `target` may be empty."""


@dataclass(frozen=True)
class Origin:
    """Where a component comes from; `distribution` is a file's path for a single-file plugin."""

    plugin: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        source = f"{self.distribution} {self.version}".strip()
        return f"{self.plugin} ({source})" if source else self.plugin


@dataclass(frozen=True)
class Entry:
    """A component, and the plugin that gives it."""

    record: Record
    origin: Origin


@dataclass(frozen=True)
class Failure:
    """A plugin that gives nothing, and why."""

    origin: Origin
    message: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.message}"


class Host:
    """All components of this process, by kind and name.

    Attributes:
        failures: The plugins that could not be loaded.
        files: The single-file plugins that a config brought: module name -> path.
        costs: What each installed plugin's import took: seconds, and the `HEAVY` modules in it.
    """

    def __init__(self, *, strict: bool = False, disabled: Sequence[str] = ()) -> None:
        self.failures: list[Failure] = []
        self.files: dict[str, Path] = {}
        self.costs: list[tuple[Origin, float, list[str]]] = []
        self._strict, self._disabled = strict, tuple(disabled)
        self._entries: list[Entry] = []
        self._manager = pluggy.PluginManager("nlpkit")
        self._manager.add_hookspecs(spec)

    @classmethod
    def discover(cls, *, disabled: Sequence[str] | None = None, strict: bool | None = None) -> Host:
        """A host with every installed plugin of the entry-point group `nlpkit`.

        Args:
            disabled: Entry points that are not even imported; None: `NLPKIT_DISABLED_PLUGINS`.
            strict: Whether failures and conflicts are errors; None: `NLPKIT_STRICT_PLUGINS`.

        Raises:
            PluginError: In strict mode, for the failures and conflicts, all of them.
        """
        if disabled is None:
            names = os.environ.get("NLPKIT_DISABLED_PLUGINS", "").split(",")
            disabled = [name.strip() for name in names if name.strip()]
        if strict is None:
            strict = os.environ.get("NLPKIT_STRICT_PLUGINS", "") not in ("", "0")
        host = cls(strict=strict, disabled=disabled)
        distribution = cache(_Distribution)
        for point in sorted(host._points(), key=lambda point: point.name):
            if point.name not in disabled:
                host._take(point, distribution)
        host._complain_if_strict()
        return host

    def bring(self, plugins: Sequence[str], base: Path) -> None:
        """Adds the plugins that a config lists: files (`./my_model.py`) and importable modules.

        Args:
            plugins: Paths that end in `.py`, relative to `base`, or dotted module names.
            base: The folder of the config.

        Raises:
            PluginError: One of them cannot be imported (with the file and line of the fault), gives
                nothing, or has a module name that is taken.
        """
        for plugin in plugins:
            if plugin.endswith(".py"):
                path = (base / Path(os.path.expanduser(plugin))).resolve()
                origin = Origin(path.stem, str(path))
                module = import_file(path, replace=path.stem not in self.files)
                self.files[path.stem] = path
            else:
                origin = Origin(plugin)
                module = import_module(plugin)
            if not self._manager.is_registered(module):
                with quietly(f"plugin {origin}"):
                    self._register(module, origin)
        self._complain_if_strict()

    def entries(self, kind: str) -> list[Entry]:
        """Every component of a kind, in the order in which plugins give them."""
        return [entry for entry in self._entries if entry.record.kind == kind]

    def entry(self, kind: str, name: str) -> Entry:
        """The component of this kind and name.

        Raises:
            PluginError: It is unknown (with what was probably meant, what is known, and the plugins
                that are broken), or two plugins claim it.
        """
        claimants = [entry for entry in self.entries(kind) if entry.record.name == name]
        if len(claimants) == 1:
            return claimants[0]
        raise PluginError(_conflict(claimants) if claimants else self._unknown(kind, name))

    def listing(self) -> list[dict[str, str]]:
        """Every component and every broken plugin (kind "failure") as plain data, for listings.

        Keys: kind, name, summary, plugin, distribution, version, and error: why it cannot be used,
        or "".
        """
        conflicts = self.conflicts()
        rows = [
            (kind, record.name, record.summary, origin, conflicts.get((kind, record.name), ""))
            for kind in KINDS
            for record, origin in ((each.record, each.origin) for each in self.entries(kind))
        ]
        for failure in self.failures:
            rows.append(("failure", failure.origin.plugin, "", failure.origin, failure.message))
        return [
            {"kind": kind, "name": name, "summary": summary, **asdict(origin), "error": error}
            for kind, name, summary, origin, error in rows
        ]

    def conflicts(self) -> dict[tuple[str, str], str]:
        """What two plugins claim, by kind and name: who they are, and what to do about it."""
        claims: dict[tuple[str, str], list[Entry]] = {}
        for entry in self._entries:
            claims.setdefault((entry.record.kind, entry.record.name), []).append(entry)
        return {key: _conflict(entries) for key, entries in claims.items() if len(entries) > 1}

    def _points(self) -> Iterable[metadata.EntryPoint]:
        """The entry points of plugins; a distribution whose list is damaged costs its own alone."""
        with suppress(Exception):
            return metadata.entry_points(group=spec.GROUP)
        for name, version in damaged_distributions():
            self.failures.append(Failure(Origin(name, name, version), UNREADABLE))
        found: dict[tuple[str, str], metadata.EntryPoint] = {}
        for dist in metadata.distributions():
            with suppress(Exception):
                for point in dist.entry_points.select(group=spec.GROUP):
                    found.setdefault((point.name, point.value), point)  # the path's first one
        return found.values()

    def _take(self, point: metadata.EntryPoint, distribution: Callable[..., _Distribution]) -> None:
        origin, started = Origin(point.name), time.perf_counter()
        before = HEAVY & sys.modules.keys()
        try:
            with quietly(""):
                found = distribution(point.dist)
                origin = Origin(point.name, found.name, found.version)
                found.check()
                self._register(point.load(), origin)
        except PluginError as error:
            self.failures.append(Failure(origin, str(error)))
        heavy = sorted((HEAVY & sys.modules.keys()) - before)
        self.costs.append((origin, time.perf_counter() - started, heavy))

    def _register(self, plugin: object, origin: Origin) -> None:
        try:
            self._manager.register(plugin, name=str(origin))
            self._manager.check_pending()
            self._entries += [Entry(record, origin) for record in self._records(plugin)]
        except BaseException:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise

    def _records(self, plugin: object) -> list[Record]:
        callers = self._manager.get_hookcallers(plugin)
        if not callers:
            raise PluginError("it implements no hook; is @nlpkit.hookimpl missing?")
        records: list[Record] = []
        for caller in callers:
            for impl in caller.get_hookimpls():
                if impl.plugin is plugin and caller.name in spec.HOOKS:  # or it is an optional one
                    records += _validated(caller.name, impl.function)
        return records

    def _unknown(self, kind: str, name: str) -> str:
        summaries = {entry.record.name: entry.record.summary for entry in self.entries(kind)}
        names = sorted(summaries)
        guess = closest(name, names) or _told(name, summaries)
        lines = [f'no {kind} is called "{name}"' + (f'; did you mean "{guess}"?' if guess else "")]
        lines.append(f"known: {', '.join(names) or 'none'}")
        if kind == "source" and Path(name).suffix:
            lines.append(f"files are named by their use, as in data: {{train: {shorten(name)}}}")
        lines += [f"broken plugin: {failure}" for failure in self.failures]
        if self._disabled:
            lines.append(f"left out by NLPKIT_DISABLED_PLUGINS: {', '.join(self._disabled)}")
        return "\n  ".join(lines)

    def _complain_if_strict(self) -> None:
        problems = [f"plugin {failure}" for failure in self.failures]
        problems += self.conflicts().values()
        if self._strict and problems:
            raise PluginError("\n".join([*problems, "(NLPKIT_STRICT_PLUGINS is set)"]))


def plugins() -> list[dict[str, str]]:
    """Every component with its kind, plugin, distribution and version; broken plugins too."""
    return Host.discover().listing()


def load(record: Record, target: str) -> Any:
    """What an import string of a record names (`module:name`).

    Raises:
        PluginError: A module that it needs is not installed (with the extra that brings it), or the
            plugin is at fault (with file and line).
    """
    who = f'{record.kind} "{record.name}"'
    module_name, _, attribute = target.partition(":")
    try:
        with quietly(who):
            module = importlib.import_module(module_name)
    except PluginError as error:
        missing = getattr(error.__cause__, "name", None)
        if not missing or not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        if f"{module_name}.".startswith(f"{missing}."):
            raise PluginError(f"{who}: there is no module {missing} (for {target})") from error
        if importlib.util.find_spec(missing.partition(".")[0]) is not None:
            raise
        remedy = f"pip install 'nlpkit-sdk[{record.extra}]'" if record.extra else "install it"
        raise PluginError(f"{who} needs {missing}, which is not installed: {remedy}") from error
    with quietly(who):
        if hasattr(module, attribute):
            return getattr(module, attribute)
    raise PluginError(f"{who}: {module_name} has no {attribute}")


class _Distribution:
    """What is read once of a distribution that has plugins."""

    def __init__(self, dist: metadata.Distribution | None) -> None:
        try:
            about = dist.metadata if dist else None
        except UnicodeDecodeError:
            folder = dist.locate_file("") if dist else ""
            raise PluginError(f"its METADATA, in {folder}, is not UTF-8; install it anew") from None
        self.name = str((about and about["Name"]) or "")
        self.version = str((about and about["Version"]) or "")
        self._requires = (about and about.get_all("Requires-Dist")) or []

    def check(self) -> None:
        """Raises PluginError where it asks for another nlpkit-sdk than this one."""
        own = re.compile(r"nlpkit[-_.]+sdk\b", re.IGNORECASE)
        if own.match(self.name):
            return
        for text in filter(own.match, self._requires):
            from packaging.requirements import Requirement

            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            if not requirement.specifier.contains(__version__, prereleases=True):
                raise PluginError(f"it needs {requirement}; this is {__version__}")


def _validated(hook: str, function: Callable[..., object]) -> list[Record]:
    given = function()
    if not isinstance(given, Iterable):
        raise PluginError(f"{hook} gives no records but {given!r}")
    records = list(given)
    for record in records:
        _validate(hook, record)
    return records


def _validate(hook: str, record: object) -> None:
    expected = KINDS[spec.HOOKS[hook]]
    if not isinstance(record, expected):
        raise PluginError(f"{hook} yields {expected.__name__}s, not {record!r}")
    where = f'{hook}: "{record.name}"'
    for field in fields(record):
        wanted = type(getattr(expected, field.name, ""))
        value = getattr(record, field.name)
        if not isinstance(value, wanted):
            raise PluginError(f"{where}: {field.name} is no {wanted.__name__}: {value!r}")
    if not _NAME.fullmatch(record.name):
        raise PluginError(f"{where} is no name: letters, digits, _ - . and a letter first")
    for name in IMPORTS:
        value = getattr(record, name, "")
        if (value or name == "target") and not _IMPORT_STRING.fullmatch(value):
            raise PluginError(f'{where}: {name} "{value}" is not of the form module:name')


def _told(name: str, summaries: Mapping[str, str]) -> str | None:
    """The component whose summary has all words of a name, as "translation"."""
    words = {*re.findall(r"\w{3,}", name.casefold())}
    found = (
        known
        for known, said in summaries.items()
        if words <= {*re.findall(r"\w+", said.casefold())}
    )
    return next(found, None) if words else None


def _conflict(entries: Sequence[Entry]) -> str:
    record = entries[0].record
    claimants = " and ".join(str(entry.origin) for entry in entries)
    return (
        f'{record.kind} "{record.name}" is claimed by {claimants}; '
        "leave one out: NLPKIT_DISABLED_PLUGINS=<plugin>, or the config's plugins"
    )
