"""Runs: from a config to a run folder, and what can be read from one."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit.bundle.format import read_bundle
from nlpkit.cli.render import Terminal
from nlpkit.config.load import dump_config, load_config
from nlpkit.config.resolve import build, resolve
from nlpkit.config.schema import Config
from nlpkit.data.prepare import prepare
from nlpkit.data.rows import write_rows
from nlpkit.environment import git_commit, runs_folder, threads_per_rank, versions
from nlpkit.errors import BundleError, InputError
from nlpkit.metrics import monitor_of
from nlpkit.plugin.host import Host, load
from nlpkit.plugin.records import KINDS
from nlpkit.plugin.trust import remember

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nlpkit.data.prepare import Prepared


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: Its folder.
    """

    path: Path

    @property
    def result(self) -> dict[str, Any]:
        """What result.json holds: metrics, details, timings, honest numbers."""
        path = self.path / "result.json"
        if not path.exists():
            raise BundleError(f"{self.path}: the run did not finish; result.json is missing")
        result: dict[str, Any] = json.loads(path.read_bytes(), object_hook=_numbers)
        return result

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The best model's values by split: `metrics["validation"]["accuracy"]`."""
        metrics: dict[str, dict[str, float]] = self.result["metrics"]
        return metrics

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line, object_hook=_numbers) for line in lines]

    @property
    def bundle(self) -> Path:
        """The folder of the bundle, verified."""
        return read_bundle(self.path).path


def train(
    config: Config | Mapping[str, Any] | str | Path,
    data: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    *,
    terminal: Terminal | None = None,
) -> Run:
    """Trains what `config` says.

    Args:
        config: From `load_config`, or what it takes: a file or a mapping.
        data: Rows in memory by split ("train", "validation", "test") instead of the config's
            locations: a list of mappings, a pandas DataFrame or a datasets.Dataset.
        out: The run folder; by default `runs/<name>`, then `runs/<name>-2` and so on.
        terminal: Where progress is shown.

    Raises:
        InputError: Config, data or plugins cannot be used; nothing is left behind.
        RunError: The run failed; its folder tells how far it came.
    """
    terminal = terminal or Terminal()
    loaded = config if isinstance(config, Config) else load_config(config)
    host = Host.discover()
    with _claimed(loaded.name, out) as folder:
        if data is not None:
            loaded = _with_rows(loaded, data, folder)
        resolved = _with_plugins(resolve(loaded, host), host, folder)
        prepared = prepare(resolved, host, terminal)
        prepared.write_rejected(folder)
        monitor_of(resolved, build(resolved.task, "task", host), prepared.schema)
        _describe(folder, resolved, host, prepared)
        modules = (plugin for plugin in resolved.plugins if not plugin.endswith(".py"))
        remember([*host.files.values(), *modules])
        build(resolved.launch, "launcher", host).launch(folder)
    return Run(folder)


class LocalLauncher:
    """Runs in this process."""

    def launch(self, run_dir: Path) -> None:
        """Trains to the end."""
        work = load(KINDS["launcher"](name="local", target=_WORK, extra="train"), _WORK)
        with _ONE_AT_A_TIME:
            work(run_dir)


_WORK = "nlpkit.worker:work"
_ONE_AT_A_TIME = threading.Lock()  # random generators and threads belong to the whole process


def local_launcher(options: None) -> LocalLauncher:
    """The launcher `local`."""
    return LocalLauncher()


@contextmanager
def _claimed(name: str, out: str | Path | None) -> Iterator[Path]:
    """A run folder of one's own; what fails before anything is learned leaves nothing behind."""
    try:
        folder, made = _given(out) if out is not None else (_numbered(name), True)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; choose another --out") from error
    folder = folder.absolute()
    try:
        yield folder
    except BaseException:
        if not (folder / "metrics.jsonl").exists():
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if made:
                folder.rmdir()
        raise


def _given(out: str | Path) -> tuple[Path, bool]:
    """The folder that was asked for, and whether it is new. Two runs cannot both get it."""
    folder = Path(out).expanduser()
    if not str(out):
        raise InputError("--out: names no folder")
    if (folder / "config.yaml").exists():
        raise InputError(f"{folder}: there is a run already; choose another --out or remove it")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; choose another --out")
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
            break
    return folder


def _with_rows(config: Config, data: Mapping[str, Any], folder: Path) -> Config:
    """Rows in memory as files of the run folder: from here on it is an ordinary run on files."""
    splits = ("train", "validation", "test")
    remedy = 'give rows by split: {"train": rows, "validation": rows, "test": rows}'
    if not isinstance(data, Mapping):
        raise InputError(f"data: is {type(data).__name__}; {remedy}")
    if unknown := [split for split in data if split not in splits]:
        raise InputError(f"data: {unknown[0]!r} is no split; {remedy}")
    if "train" not in data:
        raise InputError(f"data: train is missing; {remedy}")
    (folder / "inputs").mkdir()
    locations: dict[str, Any] = {"name": "files"}
    for split, rows in data.items():
        locations[split] = str(folder / "inputs" / f"{split}.jsonl")
        write_rows(rows, Path(locations[split]), split)
    kept: dict[str, Any] = {"on_bad_rows": config.data.on_bad_rows}
    if config.data.name == "files":
        kept |= {"validation": config.data.validation, "test": config.data.test}
    elif not isinstance(config.data.validation, str):  # another source's locations do not count
        kept["validation"] = config.data.validation
    section = type(config.data).model_validate({**kept, **locations})
    return config.model_copy(update={"data": section})


def _with_plugins(config: Config, host: Host, folder: Path) -> Config:
    """Single-file plugins, copied into the run folder: every process loads them from there."""
    if not host.files:
        return config
    (folder / "plugins").mkdir()
    copies = {}
    for stem, path in host.files.items():
        copies[path.name] = f"plugins/{stem}.py"
        shutil.copyfile(path, folder / "plugins" / f"{stem}.py")
    plugins = tuple(copies.get(Path(plugin).name, plugin) for plugin in config.plugins)
    return config.model_copy(update={"plugins": plugins})


def _describe(folder: Path, config: Config, host: Host, prepared: Prepared) -> None:
    """Writes config.yaml, with where each component comes from, and environment.json."""
    origins = "".join(f"# {line}\n" for line in _origins(config, host))
    (folder / "config.yaml").write_text(dump_config(config) + origins, encoding="utf-8")
    environment = {
        "packages": versions(),
        "threads": threads_per_rank(1),
        "git_commit": git_commit(),
        "tokens": str(prepared.path),
        "token_addresses": prepared.starts,
    }
    text = json.dumps(environment, indent=2)
    (folder / "environment.json").write_text(text + "\n", encoding="utf-8")


def _origins(config: Config, host: Host) -> Iterable[str]:
    chosen = [("source", config.data), ("tokenizer", config.tokenizer), ("task", config.task)]
    chosen += [("model", config.model), ("strategy", config.strategy), ("launcher", config.launch)]
    chosen += [("exporter", each) for each in config.export]
    chosen += [("observer", each) for each in config.observers]
    for kind, component in chosen:
        origin = host.entry(kind, component.name).origin
        yield f"{kind} {component.name}: {origin if origin.version else origin.plugin}"


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """What is no number was written as text, for JSON has no NaN."""
    texts = ("nan", "inf", "-inf")
    return {key: float(each) if each in texts else each for key, each in values.items()}
