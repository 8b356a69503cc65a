"""A bundle: all that prediction needs, in one folder. Reading its description needs no torch.

    nlpkit.json          task, labels, model, versions, and a hash of each file; written last
    tokenizer.json       and vocab.txt where it is a WordPiece vocabulary
    tokenizer_config.json  what transformers' AutoTokenizer has to know beside it
    model.safetensors
    plugins/<stem>.py    the run's single-file plugins
    <format>/            an export: a bundle too, with the model's files of that format in the
                         place of model.safetensors, and parity.json

Nothing in it is a time, a run's name or a place, so the same run gives the same bytes twice.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from nlpkit.bundle.tokenizer import TOKENIZER, write_tokenizer
from nlpkit.config.schema import Component
from nlpkit.contracts import GraphSpec, HeadSpec, Vocabulary
from nlpkit.environment import versions
from nlpkit.errors import BundleError, closest
from nlpkit.files import fault_of, from_json, hashes, is_inside, seal_of, write_json
from nlpkit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nlpkit.config.schema import Config
    from nlpkit.contracts import Codec, Graph, Schema
    from nlpkit.data.prepare import Prepared
    from nlpkit.plugin.host import Host
    from nlpkit.pretrained import Pretrained

FORMAT = 1
DESCRIPTION = "nlpkit.json"
WEIGHTS = "model.safetensors"
PARITY = "parity.json"
REFUSED = ".refused.json"
"""How the name of the report ends that a refused export leaves behind."""

_PLUGIN = re.compile(r"plugins/[^\W\d]\w*\.py|[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose description and small files are verified.

    Attributes:
        path: Its folder.
        description: What nlpkit.json holds.
    """

    path: Path
    description: Mapping[str, Any]

    @property
    def task(self) -> Component:
        """The task, with completed options."""
        return self.component("task")

    @property
    def model(self) -> Component:
        """The model, with options that need no other file."""
        return self.component("model")

    @property
    def schema(self) -> Schema:
        """What the task learned from the training rows."""
        return cast("Schema", self.description["schema"])

    @property
    def head(self) -> HeadSpec:
        """The head that the model was built with."""
        return HeadSpec(**self.description["head"])

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary that the model was built with."""
        return Vocabulary(**self.description["vocabulary"])

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the arrays that the model takes, in its order."""
        return tuple(self.description["model"]["inputs"])

    @property
    def graphs(self) -> dict[str, GraphSpec]:
        """What the graphs of the model take and give, by name."""
        if "graphs" not in self.description:  # of 0.1
            inputs = {name: ("rows", "tokens") for name in self.inputs}
            return {"model": GraphSpec(inputs=inputs, outputs={"logits": self.head.axes(inputs)})}
        return {name: GraphSpec(**spec) for name, spec in self.description["graphs"].items()}

    @property
    def exported(self) -> Component | None:
        """The exporter that wrote the model's files; None for the bundle of a run."""
        return self.component("export") if "export" in self.description else None

    @property
    def plugins(self) -> tuple[str, ...]:
        """What the config brought: files, relative to the bundle, and importable modules."""
        return tuple(self.description["plugins"])

    def verify(self, name: str, *, content: bool = True) -> None:
        """Raises BundleError where a file is not as it was sealed, or not of that size alone."""
        path = self.path / name
        if fault := fault_of(path, self.description["files"][name], content=content):
            raise BundleError(f"{path}: {fault}; {_AGAIN}")

    def component(self, kind: str) -> Component:
        """What the description has under "task", "model" or "export"."""
        described = self.description[kind]
        return Component(name=described["name"], **described["options"])


def write_description(
    folder: Path,
    *,
    config: Config,
    host: Host,
    prepared: Prepared,
    codec: Codec,
    graphs: Mapping[str, Graph],
) -> None:
    """Writes everything but the weights; the bundle is unfinished until `seal`.

    Args:
        folder: The bundle's folder; made where it is missing.
        config: The resolved config, with the precision that the run took.
        host: Knows where the components come from.
        prepared: Has the schema and the tokenizer.
        codec: The task's.
        graphs: The model's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inputs = list(graphs["model"].spec.inputs)
    write_tokenizer(folder, prepared.tokenizer_path, config.tokenizer.max_length, inputs)
    for path in host.files.values():
        (folder / "plugins").mkdir(exist_ok=True)
        shutil.copyfile(path, folder / "plugins" / path.name)
    write_json(
        folder / DESCRIPTION,
        {
            "format": FORMAT,
            "nlpkit": __version__,
            "task": _described(config.task, "task", host),
            "schema": prepared.schema,
            "model": {**_described(config.model, "model", host), "inputs": inputs},
            "tokenizer": {"name": config.tokenizer.name, "max_length": config.tokenizer.max_length},
            "vocabulary": {
                "size": codec.vocabulary.size,
                "max_length": codec.vocabulary.max_length,
                "special": dict(codec.vocabulary.special),
            },
            "head": asdict(codec.head),
            "graphs": {name: asdict(graph.spec) for name, graph in graphs.items()},
            "precision": config.precision,
            "plugins": [
                f"plugins/{Path(plugin).name}" if plugin.endswith(".py") else plugin
                for plugin in config.plugins
            ],
            "versions": dict(sorted(versions().items())),
        },
    )


def describe_export(bundle: Bundle, folder: Path, exporter: Component, host: Host) -> None:
    """Writes everything but the model of an export of `bundle`; it is unfinished until `seal`."""
    for name in bundle.description["files"]:
        if name != WEIGHTS:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle.path / name, folder / name)
    kept = {key: bundle.description[key] for key in bundle.description.keys() - {"files", "seal"}}
    weights = bundle.description["files"][WEIGHTS]["sha256"]
    export = {**_described(exporter, "exporter", host), "weights": weights}
    write_json(folder / DESCRIPTION, {**kept, "export": export})


def seal(folder: Path) -> None:
    """Hashes every file into nlpkit.json: from here on the bundle is whole, and damage is found.

    What has a hash already keeps it, so a file that was changed since is a damaged one.

    Raises:
        BundleError: The weights are missing.
    """
    description = _read_json(folder / DESCRIPTION)
    if "export" in description:
        paths = _files(folder)
    elif (folder / WEIGHTS).is_file():
        names = (path for path in folder.iterdir() if not path.name.endswith(REFUSED))
        paths = {*filter(Path.is_file, names), *(folder / "plugins").glob("*.py")}
    else:
        raise BundleError(f"{folder / WEIGHTS}: is missing, so the bundle cannot be finished")
    found = hashes(folder, paths - {folder / DESCRIPTION})
    description["files"] = {**found, **description.get("files", {})}
    description["seal"] = seal_of(description)
    write_json(folder / DESCRIPTION, description)


def pretrained_bundle(model: Pretrained, name: str) -> Bundle | None:
    """The bundle of a model of this name that a pretrained model is; None: it is no bundle.

    An export that is a folder of transformers is one of these.

    Raises:
        ConfigError: It is damaged, of another model, or another export.
    """
    if not (model.folder / DESCRIPTION).is_file() or _is_librarys(model.folder):
        return None
    try:
        bundle = read_bundle(model.folder)
    except BundleError as error:
        raise model.unusable(str(error), "") from error
    if bundle.exported or bundle.model.name != name:
        export = f"'s {bundle.exported.name} export" if bundle.exported else ""
        found = f'{bundle.path} is a model "{bundle.model.name}"{export}'
        remedy = f"name the run of a {name}, or another model under model.name"
        raise model.unusable(f"{found}, and no bundle of a {name}", remedy)
    return bundle


def _is_librarys(folder: Path) -> bool:
    """Whether it is an export that transformers reads, which others may have written in since."""
    with suppress(BundleError):
        return (folder / "config.json").is_file() and "export" in _read_json(folder / DESCRIPTION)
    return False


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """The bundle in a run folder, or a bundle's own folder, with its small files verified.

    The weights' hash is checked by whoever loads them (`Bundle.verify`); here only their size.

    Raises:
        BundleError: There is none, it is unfinished or damaged, or its format is newer.
    """
    if not isinstance(path, str | os.PathLike):
        raise BundleError(f"a run folder or a bundle is named by its path, not by {path!r}")
    folder = _find(Path(os.path.expanduser(path)))
    description = _read_json(folder / DESCRIPTION)
    found = description.get("format")
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        raise BundleError(
            f"{folder}: was written by a newer nlpkit (format {found}; this one reads up to "
            f"{FORMAT}): install a newer nlpkit"
            if newer
            else f"{folder / DESCRIPTION}: has no format that nlpkit knows ({found!r})"
        )
    if "seal" not in description:
        raise BundleError(f"{folder}: the run did not finish, so its bundle is not whole; {_GO_ON}")
    bundle = Bundle(folder, description)
    try:
        if description["seal"] != seal_of(description):
            raise BundleError(f"{folder / DESCRIPTION}: was changed or is damaged; {_AGAIN}")
        _check(bundle)
    except (AttributeError, KeyError, TypeError, ValidationError, RecursionError) as error:
        raise BundleError(
            f"{folder / DESCRIPTION}: is not as nlpkit writes it ({type(error).__name__}: {error})"
        ) from None
    return bundle


_AGAIN = "copy it again from where it is whole, or train again"
_GO_ON = "go on with it (resume=True), or train again"


def _check(bundle: Bundle) -> None:
    """Raises BundleError where a file is damaged, or the description, which anybody can seal."""
    path, files = bundle.path / DESCRIPTION, bundle.description["files"]
    for plugin in bundle.plugins:
        if not _PLUGIN.fullmatch(plugin):
            raise BundleError(f"{path}: {plugin} is neither plugins/<name>.py nor a module's name")
    code = {plugin for plugin in bundle.plugins if plugin.endswith(".py")}
    if outside := [name for name in files if not is_inside(name)]:
        raise BundleError(f"{path}: {outside[0]} is no file of the bundle")
    if bundle.exported:
        unknown = unlisted(bundle.path, files)
        if unknown or not all(bundle.description["export"][key] for key in _EXPORT):
            listed = ", ".join(sorted(each.name for each in unknown)) or "a part of nlpkit.json"
            raise BundleError(f"{bundle.path}: no export wrote {listed}; remove it")
    model = set() if bundle.exported else {WEIGHTS}
    for name in sorted({*files, TOKENIZER, *model, *code}):
        bundle.verify(name, content=name not in model)
    _check_graphs(bundle)
    parts = (bundle.task, bundle.model, bundle.inputs, bundle.head, bundle.vocabulary)
    sizes = (bundle.head.size, bundle.vocabulary.size, bundle.vocabulary.max_length)
    if not all(parts) or not isinstance(bundle.schema, dict):
        raise TypeError("a part is empty or of a wrong kind")
    labels = bundle.schema.get("labels") or ()
    if not isinstance(labels, list | tuple) or not all(isinstance(each, str) for each in labels):
        raise TypeError("the labels are no list of texts")
    if len(set(labels)) < len(labels):
        raise TypeError("a label stands twice among the labels")
    if not all(map(_is_size, sizes)):
        raise TypeError(f"a size is no whole number from 1 to {_LARGEST:,}")
    ids = bundle.vocabulary.special.values()
    if not all(isinstance(id, int) and 0 <= id < bundle.vocabulary.size for id in ids):
        raise TypeError("a special token has no id of the vocabulary")


def _check_graphs(bundle: Bundle) -> None:
    """Raises TypeError where they are none, or not those of the model's inputs."""
    for spec in bundle.graphs.values():
        for axes in (*spec.inputs.values(), *spec.outputs.values()):
            named = isinstance(axes, list | tuple)
            if not named or not all(isinstance(each, str) or _is_size(each) for each in axes):
                raise TypeError(f"axes are names, and sizes from 1 to {_LARGEST:,}, not {axes}")
    if (taken := tuple(bundle.graphs["model"].inputs)) != bundle.inputs:
        raise TypeError(f"its model takes {', '.join(taken)}, not {', '.join(bundle.inputs)}")


def _is_size(size: object) -> bool:
    return isinstance(size, int) and 0 < size <= _LARGEST


_LARGEST = 2**24
"""Of labels, tokens of a vocabulary, and tokens of a text; a table of them is made at once."""
_EXPORT = ("name", "plugin", "distribution", "weights")


def unlisted(folder: Path, files: Iterable[str]) -> set[Path]:
    """What is in an export beside its description and the files that this names."""
    return _files(folder) - {folder / name for name in (*files, DESCRIPTION)}


def _files(folder: Path) -> set[Path]:
    """All files in an export, but what Python compiled of its plugins."""
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def _find(path: Path) -> Path:
    for folder in (path / "bundle", path):
        if (folder / DESCRIPTION).is_file():
            return folder
    if not path.exists():
        runs = _runs_in(path.parent)
        meant = closest(path.name, runs)
        near = f"did you mean {path.parent / meant}?" if meant else _listed(path.parent, runs)
        raise BundleError(f"{path}: there is no such folder; {near}")
    if (path / "config.yaml").is_file() and not (path / "environment.json").exists():
        found = _runs_in(path / "runs")
        train = f"train it: nlpkit train {path / 'config.yaml'}"
        remedy = _listed(path / "runs", found) if found else train
        raise BundleError(f"{path}: is a project, not a run; {remedy}")
    if (path / "config.yaml").is_file():
        raise BundleError(f"{path}: the run did not finish, so it has no bundle; {_GO_ON}")
    raise BundleError(
        f"{path}: is neither a run folder nor a bundle; {_listed(path, _runs_in(path))}"
    )


def _runs_in(folder: Path) -> list[str]:
    found = [*folder.glob(f"*/{DESCRIPTION}"), *folder.glob(f"*/bundle/{DESCRIPTION}")]
    return sorted({path.relative_to(folder).parts[0] for path in found})


def _listed(folder: Path, runs: list[str]) -> str:
    if not runs:
        return "nlpkit train prints where its run folder is"
    return f"runs in {folder}: {', '.join(runs[:5])}{', …' if len(runs) > 5 else ''}"


def _described(component: Component, kind: str, host: Host) -> dict[str, Any]:
    origin = host.entry(kind, component.name).origin
    if origin.plugin in host.files:
        origin = replace(origin, distribution=f"plugins/{host.files[origin.plugin].name}")
    return {"name": component.name, "options": component.options, **asdict(origin)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path}: is damaged ({error}); {_AGAIN}") from None
    if not isinstance(value, dict):
        raise BundleError(f"{path}: is damaged (no JSON object); {_AGAIN}")
    return value
