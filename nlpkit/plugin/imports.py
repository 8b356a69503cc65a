"""Runs strangers' code: imports their modules and files, and says where the fault is.

One rule holds wherever that is done, `blaming`: whatever is raised is a fault of theirs, be it an
Exception or not (a panic of Rust, a test's skip, CancelledError, SystemExit). Only a signal passes.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from nlpkit.errors import Interrupted, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

UNREADABLE = "its entry_points.txt cannot be read; reinstall it"
"""Whoever asks for all entry points fails then: libraries do while they are imported."""
_DIGEST = "__nlpkit_sha256__"
_LIBRARIES = (Path(__file__).parents[1], Path(importlib.__file__).parents[1])  # ours, Python's
_OWN_FOLDERS = {Path(file).parent for file in (__file__, importlib.__file__)}


@contextmanager
def blaming(who: str, *passing: type[BaseException], file: Path | None = None) -> Iterator[None]:
    """Surrounds strangers' code: what it raises becomes a PluginError that names `who`.

    KeyboardInterrupt and Interrupted pass: they are the user's, whoever's code runs meanwhile.

    Args:
        who: Whose code it is; may be empty.
        passing: What passes too.
        file: Theirs, where a line of it is to be named.

    Raises:
        PluginError: What was raised, and at which line.
    """
    passes: tuple[type[BaseException], ...] = (KeyboardInterrupt, Interrupted, *passing)
    try:
        yield
    except passes:
        raise
    except BaseException as error:
        if _asked_for_entry_points(error) and (damaged := damaged_distributions()):
            raise PluginError("\n".join(f"{name}: {UNREADABLE}" for name, _ in damaged)) from error
        raise PluginError(f"{who}: {describe(error, file)}".removeprefix(": ")) from error


@contextmanager
def quietly(who: str, *passing: type[BaseException], file: Path | None = None) -> Iterator[None]:
    """`blaming`, with what it prints on stderr: stdout is for results, which programs read."""
    with redirect_stdout(sys.stderr), blaming(who, *passing, file=file):
        yield


def damaged_distributions() -> list[tuple[str, str]]:
    """The name and version of each distribution whose entry points cannot be read."""
    found = []
    for dist in metadata.distributions():
        try:
            _ = dist.entry_points
        except Exception:
            name, version = str(getattr(dist, "_path", "")), ""  # its folder, without metadata
            with suppress(Exception):
                name, version = dist.metadata["Name"] or name, dist.metadata["Version"] or ""
            found.append((name, version))
    return found


def _asked_for_entry_points(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).parent == Path(metadata.__file__).parent for frame in frames)


def import_module(name: str) -> ModuleType:
    """The module of a dotted name. Raises PluginError with the file and line of the fault."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise PluginError(f"plugin {name}: is no module; write ./my_model.py or my_package.plugin")
    try:
        with quietly(f"plugin {name}"):
            return importlib.import_module(name)
    except PluginError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        remedy = "install it, or put its folder on PYTHONPATH"
        raise PluginError(f"{error}; {remedy}") from error


def import_file(path: Path, *, replace: bool = True) -> ModuleType:
    """Loads a file as the module of its stem, so that records and pickles find it by that name.

    A file with the same content is loaded once, wherever it lies (a run folder has copies).

    Args:
        path: The file.
        replace: Whether it may take the place of a file that was loaded before; it may have been
            edited since, and a run folder has a copy of how it was.

    Raises:
        PluginError: It cannot be imported (with the line of the fault), or its name is taken.
    """
    name = path.stem
    if not name.isidentifier():
        raise PluginError(f'plugin {path}: "{name}" is no module name; rename the file')
    try:
        source = path.read_bytes()
    except OSError as error:
        remedy = "correct the path, which counts from the config's folder"
        raise PluginError(f"plugin {path}: {error.strerror}; {remedy}") from error
    digest = hashlib.sha256(source).hexdigest()
    loaded = sys.modules.get(name)
    if loaded is not None and _digest(loaded) == digest:
        return loaded
    if not (replace and hasattr(loaded, _DIGEST)):
        _refuse_a_taken_name(name, path, digest)
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None:
        raise PluginError(f"plugin {path}: it cannot be imported")
    module = importlib.util.module_from_spec(module_spec)
    setattr(module, _DIGEST, digest)
    sys.modules[name] = module
    try:
        # Not by its loader, which leaves a __pycache__ beside the file and may use a stale one.
        with quietly(f"plugin {path}", file=path):
            exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _digest(module: ModuleType) -> str:
    own = getattr(module, _DIGEST, None)
    return own if isinstance(own, str) else _file_digest(getattr(module, "__file__", None))


def _file_digest(file: str | None) -> str:
    if not file or not Path(file).is_file():
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _refuse_a_taken_name(name: str, path: Path, digest: str) -> None:
    loaded = sys.modules.get(name)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
    else:
        found = importlib.util.find_spec(name)
        if found is None or _file_digest(found.origin) == digest:
            return
        file = found.origin
    raise PluginError(
        f'plugin {path}: the module name "{name}" is taken by {file or "Python itself"}, '
        "which is not the same; rename the file"
    )


def describe(error: BaseException, file: Path | None = None) -> str:
    """What was raised, and at which line: of `file`, else the innermost that is no library's."""
    if isinstance(error, PluginError | pluggy.PluginValidationError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    text = named(error)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename[0] != "<" and Path(frame.filename).parent not in _OWN_FOLDERS
    ]
    own = [frame for frame in frames if file and frame.filename == str(file)]
    frames = own or [frame for frame in frames if not _in_library(frame.filename)] or frames
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text


def named(error: BaseException) -> str:
    """The kind of an error and what it says; a stranger's may fail to say anything."""
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except BaseException:  # any is theirs, as in `blaming`
        return type(error).__name__


def _in_library(file: str) -> bool:
    path = Path(file)
    installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    compiled = not path.is_absolute()
    return installed or compiled or any(path.is_relative_to(folder) for folder in _LIBRARIES)
