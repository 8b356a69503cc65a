"""Writes a bundle's model in another format, into a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nlpkit
from nlpkit.bundle.format import FORMAT, read_bundle
from nlpkit.bundle.predict import host_of, load
from nlpkit.config.resolve import build, options_of
from nlpkit.config.schema import Component
from nlpkit.errors import InputError
from nlpkit.files import hashes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from nlpkit.bundle.predict import Model
    from nlpkit.bundle.torch_engine import TorchEngine
    from nlpkit.contracts import Artifact, Exporter

MANIFEST = "export.json"

_SAMPLE = ("a short text", "another text, which is longer than the first one")


def export(
    run: str | Path,
    format: str,
    *,
    out: str | Path | None = None,
    trust_plugins: bool = False,
    **options: Any,
) -> Artifact:
    """Writes a trained model in another format.

    The files appear together or not at all; an older export of this place is replaced.

    Args:
        run: A run folder or a bundle.
        format: Name of an exporter.
        out: The folder; None: `<format>` in the bundle.
        trust_plugins: Whether plugins that a bundle brings are executed.
        options: Of the exporter.

    Raises:
        BundleError: There is no whole bundle.
        PluginError: There is no such format.
        InputError: `out` holds something that is no export, or an option is wrong.
    """
    bundle = read_bundle(run)
    host = host_of(bundle, trust_plugins=trust_plugins)
    host.entry("exporter", str(format))  # before its name becomes that of a folder
    component = Component.model_validate({**options, "name": format})
    none = options_of(component, "exporter", host) is None
    if unknown := [key for key in options if none or key == "name"]:
        raise InputError(f'exporter "{format}" takes no options; remove {", ".join(unknown)}')
    folder = Path(os.path.expanduser(out)) if out is not None else bundle.path / format
    _refuse_foreign(folder)
    model = load(run, device="cpu", trust_plugins=trust_plugins)
    module = cast("TorchEngine", model.engine).model
    exporter: Exporter = build(component, "exporter", model.host)
    with _appearing(folder) as partial:
        artifact = exporter.export(module, bundle.inputs, _sample(model), partial)
        origin = model.host.entry("exporter", component.name).origin
        manifest = {
            "format": FORMAT,
            "nlpkit": nlpkit.__version__,
            "exporter": {"name": component.name, "options": component.options, **asdict(origin)},
            "inputs": list(bundle.inputs),
            "files": hashes(partial, artifact.files),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (partial / MANIFEST).write_text(text + "\n", encoding="utf-8")
    files = [folder / path.relative_to(partial) for path in artifact.files]
    return replace(artifact, path=folder, files=files)


def _refuse_foreign(folder: Path) -> None:
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: holds something that is no export; choose another --out")


def _sample(model: Model) -> dict[str, np.ndarray]:
    """Two texts of different lengths, as the model takes them."""
    pair = len(model.task.text_columns) > 1
    batch = model.batch([(text, text) if pair else text for text in _SAMPLE])
    return {name: batch.inputs[name] for name in model.bundle.inputs}


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place when the block ends well."""
    partial = folder.resolve().with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
