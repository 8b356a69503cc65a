"""Runs: from a config to a run folder, and what can be read from one."""

from __future__ import annotations

import os
import re
import shutil
import signal
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from nlpkit.bundle.format import read_bundle
from nlpkit.bundle.publish import publish
from nlpkit.checkpoint.files import reason_of
from nlpkit.checkpoint.lock import alone
from nlpkit.cli.notebook import of_result, pairs
from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.config.resolve import build, resolve
from nlpkit.config.schema import Component, Config
from nlpkit.data.memory import on_files, write_splits
from nlpkit.environment import runs_folder
from nlpkit.errors import BundleError, InputError, Interrupted
from nlpkit.files import check_local, from_json
from nlpkit.plugin.host import Host, load
from nlpkit.run.start import Start
from nlpkit.signals import Stop, interruptible
from nlpkit.training.predictions import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nlpkit.plugin.records import LauncherRecord


@dataclass(frozen=True)
class Run(os.PathLike[str]):
    """A finished run; it stands for its folder wherever one is named.

    Attributes:
        path: Its folder, absolute, so that it is the same one in another process.

    Raises:
        BundleError: There is no such folder.
    """

    path: Path

    def __post_init__(self) -> None:
        path = Path(os.path.expanduser(self.path)).absolute()
        if not path.is_dir():
            raise BundleError(f"{path}: there is no such folder; nlpkit.train gives its own")
        object.__setattr__(self, "path", path)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        places = {"run": self.path, "bundle": self.path / "bundle"}
        if not (self.path / "result.json").exists():
            return pairs({"state": "not finished", "run": self.path})
        return of_result(self.result) + pairs(places)

    @property
    def result(self) -> dict[str, Any]:
        """What result.json holds: metrics, details, timings, honest numbers."""
        path = self.path / "result.json"
        if not path.exists():
            raise BundleError(f"{self.path}: the run did not finish; result.json is missing")
        with _readable(path):
            return cast("dict[str, Any]", from_json(path.read_bytes(), object_hook=_numbers))

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The best model's values by split: `metrics["validation"]["accuracy"]`."""
        return cast("dict[str, dict[str, float]]", self.result["metrics"])

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        with _readable(path):
            lines = path.read_text(encoding="utf-8").splitlines()
            return [from_json(line, object_hook=_numbers) for line in lines]

    @property
    def bundle(self) -> Path:
        """The folder of the bundle, verified."""
        return read_bundle(self.path).path

    def predictions(self, split: str) -> list[dict[str, Any]]:
        """What the best model predicted of each row of "validation" or "test", in their order.

        Raises:
            BundleError: The run has no such rows, or did not write its predictions.
        """
        path = place(self.path, split)
        if not path.exists():
            samples = self.result["samples"]
            if split not in samples:
                has = " and ".join(samples) or "none"
                raise BundleError(f"{self.path}: has no held-out {split} rows; it has {has}")
            raise BundleError(
                f"{path}: is missing: eval.predictions was false, the task predicts nothing of "
                "rows in an evaluation, or the run is older; nlpkit.evaluate(run, data, "
                "output=FILE) writes such a file"
            )
        with _readable(path), path.open(encoding="utf-8") as file:
            return [from_json(line) for line in file]


def train(
    config: Config | Mapping[str, Any] | str | Path,
    data: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    terminal: Terminal | None = None,
) -> Run:
    """Trains what `config` says.

    Args:
        config: From `load_config`, or what it takes: a file or a mapping.
        data: Rows in memory by split ("train", "validation", "test") instead of the config's
            locations: a list of mappings, a pandas DataFrame or a datasets.Dataset.
        out: The run folder; by default `runs/<name>`, then `runs/<name>-2` and so on.
        resume: Goes on with the run in `out`, by default with the latest of this name, from its
            newest good checkpoint; starts from the beginning where there is nothing to resume.
        terminal: Where progress is shown.

    Raises:
        InputError: Config, data or plugins cannot be used, or are not those of the run to resume;
            nothing is left behind, and nothing is changed.
        RunError: The run failed; its folder tells how far it came.
        Interrupted: A signal or a notebook's stop button ended it; what it had learned is saved.
    """
    terminal = terminal or Terminal()
    loaded = config if isinstance(config, Config) else load_config(config)
    host = Host.discover()
    with interruptible() as stop:
        folder = find_run(loaded.name, out) if resume else None
        with nullcontext(folder) if folder else _claimed(loaded.name, out) as folder:
            start = Start(config=loaded, host=host, folder=folder, terminal=terminal, resume=resume)
            if (folder / "result.json").exists():
                start.refuse_changes(data)
                work = partial(_exported, folder, loaded, terminal)
            else:
                work = partial(_trained, folder, start.ready(data), host)
            with stop.deferred():
                finished = work(stop)
            if not finished:
                number = int(stop.signal or signal.SIGINT)
                name = signal.Signals(number).name
                message = f"{folder}: ended by {name}, and saved; resume=True goes on"
                raise Interrupted(message, signal=number, run=Run(folder))
    publish(folder, terminal.note)
    return Run(folder)


def _trained(folder: Path, config: Config, host: Host, stop: Stop) -> bool:
    """Whether the launcher's processes have trained a run to its end."""
    record = cast("LauncherRecord", host.entry("launcher", config.launch.name).record)
    ranks = 0
    if not record.remote:
        ranks = load(record, "nlpkit.training.ranks:ranks_of")(config, host)
    return bool(build(config.launch, "launcher", host).launch(folder, ranks, stop))


def submit(
    config: Config | Mapping[str, Any] | str | Path,
    data: Mapping[str, Any] | None = None,
    *,
    address: str | None = None,
    insecure: bool = False,
    resume: str | None = None,
    terminal: Terminal | None = None,
) -> Any:
    """Trains what `config` says on a cluster, and returns once it is queued there.

    Args:
        config: From `load_config`, or what it takes: a file or a mapping. A launcher of other
            machines is taken for granted where it names none.
        data: Rows in memory by split, as with `train`; they travel as files.
        address: The cluster's API, by default that of RAY_ADDRESS. Without either one, a cluster
            of this machine starts, and this returns when the run has ended.
        insecure: Whether a cluster off this machine may do without authentication.
        resume: The id of a job that ended before its run did, to go on with.
        terminal: Where it is shown what is done.

    Returns:
        The job: `id`, `status()`, `logs()`, `wait()`, `stop()`, `fetch()`, `result()`; the `Run`
        where no cluster was named.

    Raises:
        InputError: Config, data, plugins or the cluster cannot be used; nothing is queued.
        RunError: The cluster does not answer.
    """
    terminal = terminal or Terminal()
    loaded = config if isinstance(config, Config) else load_config(config)
    host = Host.discover()
    records = {each.record.name: each.record for each in host.entries("launcher")}
    remote = [name for name, record in records.items() if getattr(record, "remote", False)]
    if loaded.launch.name not in remote and remote:
        local = records.get(loaded.launch.name)  # what it does not take is the other one's
        options = {} if local and local.config else loaded.launch.options
        launch = Component(name=remote[0], **options)
        loaded = loaded.model_copy(update={"launch": launch})
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        if resume:
            raise InputError("resume: needs the address of the cluster that has its storage")
        return train(loaded, data, terminal=terminal)
    resolve(loaded, host)  # what is wrong has its address here
    with TemporaryDirectory(prefix="nlpkit-") as folder:
        if data is not None:
            write_splits(data, Path(folder), loaded, host)
            loaded = on_files(loaded, Path(folder))
        return build(loaded.launch, "launcher", host).submit(
            loaded, host, address=address, insecure=insecure, resume=resume, say=terminal.note
        )


def _exported(folder: Path, config: Config, terminal: Terminal, stop: Stop) -> bool:
    """Whether a trained run has all that `config` exports; what it lacks is written now."""
    lacks = []
    if config.export:
        from nlpkit.bundle.export import export_found, write_exports  # torch

        lacks = [each.name for each in config.export if not export_found(folder, each)]
    if not lacks:
        terminal.note(f"{folder}: this run is finished; there is nothing to resume")
        return True
    terminal.note(f"{folder}: is trained; writes its exports: {', '.join(lacks)}")
    with alone(folder, terminal.note):
        result = from_json((folder / "result.json").read_bytes())
        return write_exports(folder, result, config.export, stop)


def find_run(name: str, out: str | Path | None) -> Path | None:
    """The run folder to go on with: `out`, or the latest of a name; None where there is none."""
    if out is not None:
        folders = [Path(os.path.expanduser(out))]
    else:
        mine = re.compile(re.escape(name) + r"(-\d+)?")
        folders = [path for path in runs_folder().glob("*") if mine.fullmatch(path.name)]
    marks = [folder / "environment.json" for folder in folders]
    latest = max(filter(Path.exists, marks), key=lambda mark: mark.stat().st_mtime_ns, default=None)
    return latest.parent.absolute() if latest else None


@contextmanager
def _claimed(name: str, out: str | Path | None) -> Iterator[Path]:
    """A run folder of one's own; what fails before anything is learned leaves nothing behind."""
    try:
        folder, made = _given(out) if out is not None else (_numbered(name), True)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; choose another out=DIR") from error
    folder = folder.absolute()
    try:
        yield folder
    except BaseException:
        learned = [folder / "metrics.jsonl", *folder.glob("checkpoints/step-*")]
        ready = (folder / "config.yaml").exists()
        if not (ready and any(path.exists() for path in learned)):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if made:
                folder.rmdir()
        raise


def _given(out: str | Path) -> tuple[Path, bool]:
    """The folder that was asked for, and whether it is new. Two runs cannot both get it."""
    folder = Path(os.path.expanduser(out))
    if not str(out):
        raise InputError("out=DIR: names no folder")
    check_local(folder, "out=DIR")
    if all((folder / name).exists() for name in ("config.yaml", "environment.json")):
        remedy = "go on with it (resume=True), choose another out=DIR, or remove it"
        raise InputError(f"{folder}: there is a run already; {remedy}")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; choose another out=DIR")
    try:
        (folder / "environment.json").touch(exist_ok=False)
    except FileExistsError:
        raise InputError(f"{folder}: another run has just taken it") from None
    return folder, made


def _numbered(name: str) -> Path:
    """`name` in the folder of runs, or the first `name-2`, `name-3`, … that is free."""
    parent = runs_folder()
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            (folder / "environment.json").touch()
            break
    return folder


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Surrounds the reading of a run's file. Raises BundleError where it cannot be read."""
    try:
        yield
    except (OSError, ValueError) as error:
        remedy = "restore it from a copy; the bundle works without it"
        raise BundleError(f"{path}: cannot be read ({reason_of(error)}); {remedy}") from error


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """What is no number was written as text, for JSON has no NaN."""
    texts = ("nan", "inf", "-inf")
    return {
        key: float(each) if key != "label" and each in texts else each
        for key, each in values.items()
    }
