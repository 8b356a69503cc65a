"""Whether a config may go on from a checkpoint: what would change the result is an error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nlpkit.environment import versions
from nlpkit.errors import CheckpointError
from nlpkit.files import sha256
from nlpkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nlpkit.config.schema import Config
    from nlpkit.errors import Problem

_FIXED = ("seed", "task", "data", "tokenizer", "model", "train", "precision")
_FREE = ("train.micro_batch_size",)
_ALSO_FIXED = ("loader.bucketing", "eval.every", "eval.monitor", "eval.generated_rows")
_BEFORE = {"train.betas": [0.9, 0.999], "train.epsilon": 1e-8, "eval.generated_rows": 200}
"""What held before there were such keys, whatever their defaults are now."""
_REMEDY = "set it back, or start a new run with another out=DIR"


def check_version(run_dir: Path, manifest: Mapping[str, Any]) -> None:
    """Raises CheckpointError for a checkpoint of another minor version, which trains otherwise.

    Args:
        run_dir: The run folder, for the message.
        manifest: The checkpoint's.
    """
    wrote = manifest["environment"].get("nlpkit-sdk", __version__)
    minor = ".".join(wrote.split(".")[:2])
    if minor != ".".join(__version__.split(".")[:2]):
        raise CheckpointError(
            f"{run_dir}: was begun with nlpkit {wrote}, and this is {__version__}, which may train "
            f'otherwise; go on with "nlpkit-sdk=={minor}.*", or start a new run with another '
            "out=DIR"
        )


def differences(
    config: Config, recipe: Mapping[str, Any], manifest: Mapping[str, Any]
) -> list[Problem]:
    """What differs from the run that a checkpoint is of; empty where it may go on.

    Rows count by their content, whatever their file is called; a folder may have moved.

    Args:
        config: Resolved, its precision included.
        recipe: Of the data as they are now; {}: they are not read, and their files' names count.
        manifest: The checkpoint's.
    """
    old = {**_BEFORE, **_fixed(manifest["config"])}
    new = _fixed(config.model_dump(mode="json"))
    for key in {*manifest["data"], *recipe}:  # rows, code and versions that the config does not say
        if key not in {*old, *new} and not key.startswith(("data.", "task.", "tokenizer.")):
            old[key], new[key] = manifest["data"].get(key), recipe.get(key)
    return [
        config.origin.problem(tuple(key.split(".")), _change(old.get(key), new.get(key)), _REMEDY)
        for key in sorted({*old, *new})
        if not _same(old.get(key), new.get(key), hashed=f"rows of {key}" in recipe)
    ]


def setting(run_dir: Path, **given: Any) -> dict[str, Any]:
    """What a run computes with: where it differs, a resumed run is not exact to the bit.

    Args:
        run_dir: Has the plugins that are files.
        given: What else counts, such as the number of threads.
    """
    plugins = sorted((run_dir / "plugins").glob("*.py"))
    return {**versions(), **{f"plugins/{path.name}": sha256(path) for path in plugins}, **given}


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values that may not change, by dotted key."""
    return {
        key: value
        for key, value in _flat(config)
        if (key.partition(".")[0] in _FIXED and key not in _FREE) or key in _ALSO_FIXED
    }


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value.keys() == {"env"} and isinstance(value["env"], str):
        yield path, "{env}"  # a secret, whatever its variable is called
    elif isinstance(value, dict) and (value or not path):
        for key, each in value.items():
            yield from _flat(each, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _same(old: Any, new: Any, *, hashed: bool) -> bool:
    if isinstance(old, str) and isinstance(new, str):
        if hashed:  # which is compared instead
            return True
        if os.path.isabs(old) and os.path.isabs(new):
            return os.path.basename(old) == os.path.basename(new)
    return bool(old == new)


def _change(old: Any, new: Any) -> str:
    if old is not None and new is not None and len(f"{old}{new}") > 100:
        return "is not what the run was started with"
    return f"is {_shown(new)}, and the run was started with {_shown(old)}"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
