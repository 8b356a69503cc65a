"""What the content of a token store depends on: its recipe, whose hash is the store's name."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit.errors import PluginError
from nlpkit.plugin.host import load
from nlpkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlpkit.config.schema import Component, Config
    from nlpkit.data.vocabulary import Roles
    from nlpkit.plugin.host import Host

FORMAT = 1
ROLES = "the tokenizer's special tokens"
FILE = "recipe.json"


def recipe(
    config: Config,
    host: Host,
    fingerprints: Mapping[str, str],
    tokenizer: str | None,
    roles: Roles,
) -> dict[str, Any]:
    """Everything that the tokens, the schema and the tokenizer depend on, by dotted key.

    Args:
        config: The resolved config.
        host: Says where each component comes from.
        fingerprints: A hash of the rows at each location of the config, by split.
        tokenizer: The tokenizer.json of one that is not trained; None: it is trained on the rows.
        roles: What its other files say of special tokens.
    """
    data, seen = config.data, dict[str, Any](format=FORMAT)
    seen |= {"nlpkit's version": __version__, "tokenizers' version": version("tokenizers")}
    seen |= {f"rows of data.{split}": value for split, value in fingerprints.items()}
    seen |= _component("data", data, "source", host)
    seen["data.on_bad_rows"] = data.on_bad_rows
    if isinstance(data.validation, float):
        seen |= {"data.validation": data.validation, "seed": config.seed}
    seen |= _component("task", config.task, "task", host)
    if tokenizer is None:
        seen |= _component("tokenizer", config.tokenizer, "tokenizer", host)
    else:
        seen["tokenizer"] = _sha256(tokenizer.encode())
    seen |= {ROLES: dict(roles)} if roles else {}
    return {**seen, "tokenizer.max_length": config.tokenizer.max_length}


def key(seen: Mapping[str, Any]) -> str:
    """The name of the store that follows a recipe."""
    return _sha256(json.dumps(seen, sort_keys=True).encode())[:32]


def changes(stores: Path, seen: Mapping[str, Any], train: str) -> list[str]:
    """What differs from the most similar store that was made for the same training location."""
    nearest: list[str] | None = None
    for path in stores.glob(f"*/{FILE}"):
        try:
            other = json.loads(path.read_bytes())
            old = other["recipe"] if other["locations"]["train"] == train else None
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged, or just being replaced
        if old is not None:
            keys = {**seen, **old}
            different = [name for name in keys if seen.get(name) != old.get(name)]
            if nearest is None or len(different) < len(nearest):
                nearest = different
    return nearest or []


def _component(section: str, component: Component, kind: str, host: Host) -> dict[str, Any]:
    """A component's options, and which code it is: its plugin's version, and its files."""
    entry = host.entry(kind, component.name)
    load(entry.record, entry.record.target)
    code = _code(entry.record.target.partition(":")[0].partition(".")[0])
    options = {f"{section}.{name}": value for name, value in component.options.items()}
    identity = [component.name, entry.origin.distribution, entry.origin.version, code]
    if not entry.origin.version:  # a file or module of the config: where it lies is no matter
        identity = [component.name, code]
    return {section: identity, **options}


def _code(package: str) -> str:
    """A hash of the Python files of an imported package, or of a module and those beside it.

    Raises:
        PluginError: They were edited after they were imported: their hash would not be that of the
            code that runs.
    """
    module = sys.modules[package]
    folders = map(Path, getattr(module, "__path__", ()))
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    files = files or _together(Path(module.__file__ or ""))
    contents = [path.name.encode() + path.read_bytes() for path in files if path.is_file()]
    code = _sha256(b"\0".join(contents))
    seen = module.__dict__.setdefault("__nlpkit_code__", code)  # a file that is reloaded forgets it
    if seen != code:
        raise PluginError(f"{package} was edited after it was imported; restart this process")
    return code


def _together(file: Path) -> list[Path]:
    """The file of a module and, where it is not installed, the imported ones beside it."""
    if "site-packages" in file.parts:
        return [file]
    others = [other for name, other in list(sys.modules.items()) if name != "__main__"]
    imported = {Path(getattr(other, "__file__", None) or "") for other in others}
    return sorted({file, *(path for path in imported if path.parent == file.parent)})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
