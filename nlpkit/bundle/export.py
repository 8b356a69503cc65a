"""Writes a bundle's model in another format, into a folder of its own, past the gate."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from nlpkit.bundle.format import (
    DESCRIPTION,
    PARITY,
    REFUSED,
    WEIGHTS,
    describe_export,
    read_bundle,
    seal,
    unlisted,
)
from nlpkit.bundle.grid import Filling, axes_of
from nlpkit.bundle.load import host_of, load
from nlpkit.bundle.parity import Gate
from nlpkit.bundle.publish import publish
from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.config.resolve import build, options_of
from nlpkit.config.schema import Component
from nlpkit.data.memory import on_files
from nlpkit.data.prepare import held_out
from nlpkit.environment import working_folder
from nlpkit.errors import BundleError, InputError, NlpkitError, RunError, closest
from nlpkit.files import check_local, fault_of, hashes, locked, put, write_json
from nlpkit.plugin.imports import blaming
from nlpkit.plugin.trust import remember

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nlpkit.bundle.format import Bundle
    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Artifact, Exporter, Graph
    from nlpkit.data.rows import Rows
    from nlpkit.engine.torch import TorchEngine
    from nlpkit.plugin.host import Host
    from nlpkit.plugin.records import ExporterRecord

_SAMPLE = {"rows": 2, "tokens": 7, "past": 3}
"""Sizes of what a graph is traced with: torch takes 0 and 1 for constants."""

_SHOWN = 3
_LOCK = ".lock"


def export(
    run: str | os.PathLike[str],
    format: str,
    *,
    out: str | Path | None = None,
    trust_plugins: bool = False,
    terminal: Terminal | None = None,
    **options: Any,
) -> Artifact:
    """Writes a trained model in another format, if a fresh process gets the same out of it.

    The folder is a bundle too: `nlpkit.load` opens it. It appears as a whole or not at all; an
    older export of this place is replaced. parity.json in it has what was compared. Where the
    export is refused nothing is left but that report, as `<folder>.refused.json`.

    Args:
        run: A Run or a run folder, whose validation texts the export is judged by.
        format: Name of an exporter.
        out: The folder; None: `<format>` in the bundle.
        trust_plugins: Whether plugins that a bundle brings are executed.
        terminal: Where it is said that it begins.
        options: Of the exporter.

    Raises:
        BundleError: There is no whole bundle.
        PluginError: There is no such format.
        InputError: `out` holds something that is no export, an option is wrong, a module that is
            needed is not installed, or the validation rows are not there any more.
        RunError: The export does not say what the model says.
    """
    check_local(out or "", "out=DIR")
    bundle = read_bundle(run)
    host = host_of(bundle, trust_plugins=trust_plugins)
    record = cast("ExporterRecord", host.entry("exporter", str(format)).record)
    if missing := [name for name in record.needs if find_spec(name) is None]:
        raise InputError(
            f"{format} needs {', '.join(missing)}, which is not here: "
            f"pip install 'nlpkit-sdk[{record.extra}]'"
        )
    component = Component.model_validate({**options, "name": format})
    _check_options(component, options, host)
    folder = (Path(os.path.expanduser(out)) if out is not None else bundle.path / format).resolve()
    _check_place(folder)
    rows = _validation_rows(bundle, host)
    if terminal:
        terminal.note(f"{format}: written, then compared with the model by a fresh process")
    model, given = (
        load(run, device="cpu", trust_plugins=trust_plugins, backend="torch") for _ in range(2)
    )
    gate = Gate(model, rows)
    refused = folder.with_name(folder.name + REFUSED)
    with _workplace(folder) as work:
        artifact, changed = _written(given, component, Filling(model, gate.rows), work)
        report = gate.judge(artifact, changed)
        if failures := report["failures"]:
            write_json(refused, report)
            raise RunError(_refusal(format, failures, refused))
        write_json(artifact.path / PARITY, report)
        seal(artifact.path)
        put(artifact.path, folder, work / "older")
    refused.unlink(missing_ok=True)
    remember([folder / DESCRIPTION])
    if out is None:
        publish(bundle.path.parent, Terminal().note)
    files = [folder / each for each in artifact.files]
    return replace(artifact, path=folder, files=files, parity=report)


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder beside an export's, without what exports of this place were killed over."""
    for left in folder.parent.iterdir():
        if left.name.startswith(f".{folder.name}.") and left.is_dir():
            with suppress(TimeoutError), locked(left / _LOCK):
                shutil.rmtree(left, ignore_errors=True)
    with (
        TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work,
        locked(Path(work, _LOCK)),  # it is nobody's leftover
    ):
        yield Path(work)


def _written(
    given: Model, component: Component, filling: Filling, work: Path
) -> tuple[Artifact, list[str]]:
    """A sealed export, its files relative to it, and what its exporter changed of the rest.

    Args:
        given: A model of the exporter's own: what it does to it must not reach the one that the
            export is compared with.
        component: The exporter.
        filling: Makes samples.
        work: Where the export gets a folder.
    """
    written, bundle = work / "written", given.bundle
    written.mkdir()
    describe_export(bundle, written, component, given.host)
    before = hashes(written, filter(Path.is_file, written.rglob("*")))
    exporter: Exporter = build(component, "exporter", given.host)
    artifact = exporter.export(_graphs(given, filling), written)
    changed = [name for name in before if fault_of(written / name, before[name])]
    files = [path.relative_to(written) for path in artifact.files]
    seal(written)
    judged = written.rename(work / "judged")  # what is bound to where it was written is found out
    return replace(artifact, path=judged, files=files), changed


def write_exports(
    run_dir: Path, result: dict[str, Any], exporters: Iterable[Component], stop: Callable[[], bool]
) -> bool:
    """Writes what a trained run lacks of its `export`; one that fails costs no other.

    Args:
        run_dir: The run folder; its result.json is told at once what came of each format.
        result: What result.json holds; its "exports" are filled in.
        exporters: The formats that are asked for.
        stop: Polled before and after each.

    Returns:
        Whether all were tried; false: it was asked to stop, and the rest can be written later.

    Raises:
        RunError: A format could not be written.
    """
    failed = []
    for exporter in exporters:
        outcome = export_found(run_dir, exporter)
        if not outcome and not stop():
            outcome = _tried(run_dir, exporter)
        if (not outcome or "error" in outcome) and stop():  # a signal ends the gate's process too
            return False
        failed += [outcome["error"]] if "error" in outcome else []
        result["exports"][exporter.name] = outcome
        write_json(run_dir / "result.json", result)
    if failed:
        remedy = "resume=True tries again"
        raise RunError("\n".join([f"{run_dir}: is trained, but not exported; {remedy}", *failed]))
    return True


def export_found(run_dir: Path, exporter: Component) -> dict[str, Any]:
    """What the gate said of an export that is there, of these weights and options; else nothing."""
    try:
        bundle, made = read_bundle(run_dir), read_bundle(run_dir / "bundle" / exporter.name)
        host, there = host_of(bundle, trust_plugins=True), cast("Component", made.exported)
        weights = bundle.description["files"][WEIGHTS]["sha256"]
        same = made.description["export"]["weights"] == weights and (
            options_of(there, "exporter", host) == options_of(exporter, "exporter", host)
        )
        return _told(json.loads((made.path / PARITY).read_bytes())) if same else {}
    except (NlpkitError, OSError):
        return {}


def _tried(run_dir: Path, exporter: Component) -> dict[str, Any]:
    """What came of writing a format."""
    try:
        with blaming(exporter.name, NlpkitError):  # a plugin's, or a full disk
            made = export(run_dir, exporter.name, trust_plugins=True, **exporter.options)
    except NlpkitError as error:
        return {"error": str(error)}
    return _told(made.parity)


def _told(parity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: parity[key] for key in ("difference", "agreement")}


def _check_options(component: Component, options: Mapping[str, Any], host: Host) -> None:
    name = component.name
    found = options_of(Component(name=name), "exporter", host)
    known = list(type(found).model_fields) if found else []
    for key in options:
        if key not in known:
            meant = closest(key, known)
            hint = f'did you mean "{meant}"?' if meant else f"remove {key}"
            what = f'has no option "{key}"' if known else "takes no options"
            raise InputError(f'exporter "{name}" {what}; {hint}')
    options_of(component, "exporter", host)


def _validation_rows(bundle: Bundle, host: Host) -> Rows:
    stored, inputs = (bundle.path.with_name(name) for name in ("config.yaml", "inputs"))
    if bundle.exported or bundle.path.name != "bundle" or not stored.is_file():
        raise BundleError(
            f"{bundle.path}: is no run folder, whose validation texts an export is judged by; "
            "export from the run folder"
        )
    try:
        config = load_config(stored)  # which says where the run was before it was moved
        return held_out(on_files(config, inputs) if inputs.is_dir() else config, host)
    except InputError as error:
        raise InputError(
            f"an export is judged by the validation texts of its run, and they cannot be read: "
            f"{error}"
        ) from error


def _refusal(format: str, failures: list[str], report: Path) -> str:
    shown = "\n  ".join(failures[:_SHOWN])
    more = f"\n  and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    return (
        f"{format}: refused, for it does not say what the model says\n  {shown}{more}\n"
        f"what was compared is in {report}"
    )


def _check_place(folder: Path) -> None:
    """Raises InputError where something else would be lost, or no folder can be."""
    if folder == working_folder():
        raise InputError(f"{folder}: is the working directory; name a folder in it with out=DIR")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; choose another out=DIR") from error
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    description = folder / DESCRIPTION
    if description.is_file() and '"export": {' in description.read_text("utf-8", "replace"):
        listed = json.loads(description.read_text("utf-8")).get("files", {})
        others = ", ".join(sorted(path.name for path in unlisted(folder, listed)))
        if not others:
            return
        raise InputError(f"{folder}: also holds {others}, which no export wrote; move it")
    raise InputError(f"{folder}: holds something that is no export; choose another out=DIR")


def _graphs(model: Model, filling: Filling) -> dict[str, Graph]:
    """The model's graphs in evaluation mode, with a sample each."""
    found = {}
    for name, graph in cast("TorchEngine", model.engine).modules.items():
        graph.module.eval()
        longest = model.bundle.vocabulary.max_length - _SAMPLE["past"]
        sizes = {axis: _SAMPLE.get(axis, 5) for axis in axes_of(graph.spec)}
        sizes |= {"tokens": max(2, min(sizes.get("tokens", 2), longest))}
        found[name] = replace(graph, sample=graph.sample or filling.arrays(graph.spec, sizes))
    return found
