"""Opens a run folder, a bundle or an export; its engine is imported by name, torch only so."""

from __future__ import annotations

import importlib
import importlib.util
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from nlpkit.bundle.format import DESCRIPTION, WEIGHTS, Bundle, read_bundle
from nlpkit.bundle.predict import Model
from nlpkit.config.load import load_config
from nlpkit.config.resolve import KINDS, build, options_of
from nlpkit.config.schema import DEVICE, Component
from nlpkit.environment import working_folder
from nlpkit.errors import BundleError, ConfigError, InputError, NlpkitError, PluginError
from nlpkit.plugin.host import Host, Origin
from nlpkit.plugin.imports import quietly
from nlpkit.plugin.trust import trusted, trusting

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nlpkit.contracts import Arrays, Exporter, GraphSpec
    from nlpkit.plugin.records import ExporterRecord

Backend = Literal["torch", "onnx"]
_WRITE = 'write it with nlpkit.export(RUN, "onnx") or nlpkit export RUN onnx'


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "fp32",
    trust_plugins: bool = False,
    backend: Backend | None = None,
) -> Model:
    """A trained model, from a run folder, a bundle or an export; nothing else, and no network.

    Args:
        path: A Run, the run folder, or the bundle's or the export's own folder.
        device: "auto", "cpu", "mps", "cuda" or "cuda:1"; an export runs on the CPU.
        precision: "fp32", or "auto": what training would take on the device. An export keeps the
            one that it was written in.
        trust_plugins: Whether plugins that it brings are executed even if this user has not trained
            with them here.
        backend: "torch", or "onnx" for the bundle's ONNX model, without an import of torch. None:
            what wrote an export; for a bundle torch where it is installed, else "onnx".

    Raises:
        BundleError: There is none, it is damaged, or it brings plugins that are not trusted.
        PluginError: A component's plugin is not installed.
        InputError: The device, the precision or the backend is unknown or not there.
    """
    if not re.fullmatch(DEVICE, str(device)):
        raise InputError(f'device "{device}" is none of auto, cpu, mps, cuda, cuda:0, cuda:1, …')
    if precision not in ("fp32", "auto"):
        raise InputError(f'precision "{precision}" is none of fp32, auto')
    if backend not in (None, "torch", "onnx"):
        raise InputError(f'backend "{backend}" is none of torch, onnx')
    working_folder()
    bundle = _chosen(read_bundle(path), backend)
    options: dict[str, Any] = {"device": device, "precision": precision}
    again = partial(
        load, bundle.path.absolute(), trust_plugins=trust_plugins, backend=backend, **options
    )
    if bundle.exported is None:
        host = host_of(bundle, trust_plugins=trust_plugins)
        try:
            network = importlib.import_module("nlpkit.bundle.network")
        except ModuleNotFoundError as error:
            raise InputError(
                f"prediction needs {error.name}, which is not here: pip install 'nlpkit-sdk[train]'"
            ) from error
        engine = partial(network.torch_engine, bundle, host=host, **options)
        return Model(bundle, host, engine, again=again)
    if device not in ("auto", "cpu"):
        raise InputError(f"{bundle.path}: an export runs on the CPU here, not on {device}")
    with trusting(trust_plugins):
        host = host_of(bundle, trust_plugins=trust_plugins, kinds=("task", "export"))
        _check_trust(bundle, host)
        return Model(bundle, host, lambda _: _ExportEngine(bundle, host), again=again)


def data_of(bundle: Bundle) -> Component | None:
    """What the run that a bundle or its export lies in says of its data; None outside of a run."""
    path = bundle.path.parent if bundle.exported else bundle.path
    config = path.with_name("config.yaml")
    return load_config(config).data if path.name == "bundle" and config.is_file() else None


class _ExportEngine:
    """Runs an export as its exporter opens it; implements `nlpkit.contracts.Engine`."""

    def __init__(self, bundle: Bundle, host: Host) -> None:
        exporter: Exporter = build(bundle.exported, "exporter", host)  # type: ignore[arg-type]
        try:
            with quietly(f"{bundle.path}: cannot be opened", NlpkitError):
                self._graphs = exporter.open(bundle.path)
        except PluginError as error:  # it has no plugin's code: its files are at fault
            raise BundleError(str(error)) from error
        self.graphs: Mapping[str, GraphSpec] = bundle.graphs

    def run(self, inputs: Arrays, graph: str = "model") -> dict[str, np.ndarray]:
        spec = self.graphs[graph]
        found = self._graphs[graph]({name: inputs[name] for name in spec.inputs})
        outputs = [found] if isinstance(found, np.ndarray) else found
        return {
            name: np.asarray(each, np.float32 if each.dtype.kind == "f" else None)
            for name, each in zip(spec.outputs, outputs, strict=True)
        }


def _check_trust(bundle: Bundle, host: Host) -> None:
    """Raises BundleError for a format that is code, unless it was written here."""
    name = bundle.description["export"]["name"]
    record = cast("ExporterRecord", host.entry("exporter", name).record)
    if not record.inert and not trusted(bundle.path / DESCRIPTION):  # it has every file's hash
        raise BundleError(
            f"{bundle.path}: is code that was not written here ({name}), which is not executed "
            "unless you trust it: use trust_plugins=True"
        )


def _chosen(bundle: Bundle, backend: Backend | None) -> Bundle:
    """The bundle itself, or the ONNX export in it."""
    onnx = bundle.exported is None and (bundle.path / "onnx" / DESCRIPTION).is_file()
    if backend is None and not bundle.exported and importlib.util.find_spec("torch") is None:
        if not onnx:
            raise InputError(
                f"{bundle.path}: prediction needs torch, which is not here: pip install "
                f"'nlpkit-sdk[train]'; or, where torch is, {_WRITE}"
            )
        backend = "onnx"
    if backend == "torch" and bundle.exported:
        name = bundle.exported.name
        raise BundleError(
            f"{bundle.path}: is an export, {name}; name its run to predict with torch"
        )
    if backend != "onnx" or (bundle.exported and bundle.exported.name == "onnx"):
        return bundle
    if not onnx:
        raise BundleError(f"{bundle.path}: has no ONNX model; {_WRITE}")
    export = read_bundle(bundle.path / "onnx")
    if export.description["export"]["weights"] != bundle.description["files"][WEIGHTS]["sha256"]:
        raise BundleError(f"{export.path}: was written of other weights; export again")
    return export


def host_of(
    bundle: Bundle, *, trust_plugins: bool, kinds: Sequence[str] = ("task", "model")
) -> Host:
    """A host with the plugins that a bundle brings.

    Args:
        bundle: The bundle.
        trust_plugins: Whether those are executed that were not trained with here.
        kinds: The parts of the description that are needed. An export needs no model, so what
            gives nothing else than that is not imported.

    Raises:
        BundleError: One is not trusted.
        PluginError: One cannot be imported, or the plugin of a component is missing.
    """
    brought = bundle.plugins
    if "model" not in kinds:
        givers = {bundle.description[kind][key] for kind in kinds for key in _GIVERS}
        brought = tuple(plugin for plugin in brought if plugin in givers)
    paths: list[Path | str] = [
        bundle.path / name if name.endswith(".py") else name for name in brought
    ]
    strange = [str(plugin) for plugin in paths if not trust_plugins and not trusted(plugin)]
    if strange:
        raise BundleError(
            f"{bundle.path}: brings code that was not trained with here ({', '.join(strange)}), "
            "which is not executed unless you trust it: read it, then use trust_plugins=True"
        )
    host = Host.discover()
    host.bring(brought, bundle.path)
    for kind in kinds:
        described = bundle.description[kind]
        try:
            options_of(bundle.component(kind), KINDS[kind], host)
        except ConfigError as error:
            raise BundleError(f"{bundle.path / DESCRIPTION}: {error}") from None
        except PluginError as error:
            origin = Origin(
                *(str(described.get(key)) for key in ("plugin", "distribution", "version"))
            )
            raise PluginError(f"{error}\n  {bundle.path} was made with {origin}") from None
    return host


_GIVERS = ("plugin", "distribution")
"""What names the giver of a component: a module, or a file of the bundle."""
