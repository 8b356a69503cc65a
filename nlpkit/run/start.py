"""What happens in a run folder before training: rows and plugins come in, the config is stored."""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nlpkit.checking.config import start_problems
from nlpkit.checkpoint.backup import backup_of
from nlpkit.checkpoint.files import newest
from nlpkit.checkpoint.lock import alone
from nlpkit.checkpoint.resume import check_version, differences
from nlpkit.config.load import dump_config, load_config
from nlpkit.config.resolve import check_model, chosen, monitor_of, resolve
from nlpkit.config.schema import Secret
from nlpkit.data.memory import SPLITS, on_files, write_splits
from nlpkit.data.prepare import Prepared, prepare
from nlpkit.environment import git_commit, versions
from nlpkit.errors import ConfigError, InputError
from nlpkit.files import write_json
from nlpkit.plugin.trust import remember
from nlpkit.secrets import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlpkit.checkpoint.files import Checkpoint
    from nlpkit.cli.render import Terminal
    from nlpkit.config.schema import Config
    from nlpkit.plugin.host import Host


@dataclass(kw_only=True)
class Start:
    """A run that is about to begin, or to go on.

    Attributes:
        config: As it was loaded.
        host: Has the components.
        folder: The run folder.
        terminal: Where it is said what is found.
        resume: Whether it may go on from a checkpoint, here or in the backup.
    """

    config: Config
    host: Host
    folder: Path
    terminal: Terminal
    resume: bool

    def ready(self, data: Mapping[str, Any] | None) -> Config:
        """Fills the run folder with all that a worker needs; the resolved config.

        Args:
            data: Rows in memory by split, instead of the config's locations.

        Raises:
            InputError: Something cannot be used, or is not what the run was started with; a run
                that is there already is as it was.
        """
        if self.resume:
            with alone(self.folder, self.terminal.note):
                pass  # what is there is complete now, and nobody's
        found = self._found()
        config = self._resolved(data, found.manifest["config"] if found else None)
        self._check(config, weights=not found)
        prepared = prepare(config, self.host, self.terminal)
        codec = prepared.codec(config, self.host)
        check_model(config, self.host, codec)
        monitor, _ = monitor_of(config, codec)
        config = _as_stored(config, monitor)
        if found and (problems := differences(config, prepared.recipe, found.manifest)):
            raise ConfigError(problems)
        prepared = Prepared.open(prepared.path, starts=_named(config, prepared.starts))
        prepared.write_rejected(self.folder)
        config = self._with_plugins(config)
        self._describe(config, prepared)
        modules = (plugin for plugin in config.plugins if not plugin.endswith(".py"))
        remember([*self.host.files.values(), *modules])
        return config

    def refuse_changes(self, data: Mapping[str, Any] | None) -> None:
        """Raises InputError where this is not what a finished run was trained with.

        Rows in memory are compared; files are not read any more, and may be gone.
        """
        stored = load_config(self.folder / "config.yaml")
        config = self._resolved(data, stored.model_dump(mode="json"))
        config = _as_stored(config, config.eval.monitor or stored.eval.monitor)
        # Gives it the options that are younger than the run; the plugins are those of the config.
        stored = resolve(stored.model_copy(update={"plugins": ()}), self.host)
        about = {"config": stored.model_dump(mode="json"), "data": {}}
        if problems := differences(config, {}, about):
            raise ConfigError(problems)

    def _resolved(self, data: Mapping[str, Any] | None, stored: Mapping[str, Any] | None) -> Config:
        """The config with its rows, resolved; `stored` is that of the run to go on with."""
        config = self._with_rows(data, resumes=stored is not None)
        if stored and config.precision == "auto":
            config = config.model_copy(update={"precision": stored["precision"]})
        return resolve(config, self.host)

    def _check(self, config: Config, *, weights: bool) -> None:
        problems = start_problems(config, self.host, weights=weights)
        if errors := [problem for problem in problems if problem.severity == "error"]:
            raise ConfigError(errors)
        for problem in problems:
            self.terminal.note(f"warning: {problem}")

    def _found(self) -> Checkpoint | None:
        """The newest good checkpoint, here or in the backup; what is damaged is named."""
        checkpoints = self.folder / "checkpoints"
        backup = backup_of(self.config, self.folder.name)
        if not self.resume:
            if backup and backup.exists():
                raise InputError(
                    f"{backup}: has checkpoints of another run; go on with it (resume=True), "
                    "choose another out=DIR, or remove them"
                )
            return None
        found = newest(checkpoints, lambda _: None)  # training names it
        if backup:
            remote = backup.newest(checkpoints, found.step if found else -1, self.terminal.note)
            found = remote or found
            if found and found.best_step is not None:
                backup.fetch(checkpoints, found.best_step, self.terminal.note)
        if found:
            check_version(self.folder, found.manifest)
        else:
            self.terminal.note(f"{self.folder}: nothing to resume; starts from the beginning")
        return found

    def _with_rows(self, data: Mapping[str, Any] | None, *, resumes: bool) -> Config:
        """Rows in memory as files of the run folder: from here on it is a run on files."""
        inputs = self.folder / "inputs"
        if data is not None:
            with TemporaryDirectory(dir=self.folder, prefix=".inputs") as temporary:
                given = Path(temporary, "inputs")
                given.mkdir()
                written = write_splits(data, given, self.config, self.host)
                if not (resumes and inputs.exists()):
                    shutil.rmtree(inputs, ignore_errors=True)
                    given.rename(inputs)
                    return on_files(self.config, inputs)
                for split, path in written.items():
                    stored = inputs / path.name
                    if not (stored.exists() and filecmp.cmp(path, stored, shallow=False)):
                        raise InputError(
                            f"data: the {split} rows are not those that the run was started with; "
                            "give the same ones, or start a new run with another out"
                        )
        elif self.config.data.train is not None or not (self.resume and inputs.exists()):
            return self.config
        return on_files(self.config, inputs)

    def _with_plugins(self, config: Config) -> Config:
        """Single-file plugins, copied into the run folder: every process loads them from there."""
        if not self.host.files:
            return config
        (self.folder / "plugins").mkdir(exist_ok=True)
        copies = {}
        for stem, path in self.host.files.items():
            copies[path.name] = f"plugins/{stem}.py"
            copy = self.folder / "plugins" / f"{stem}.py"
            if not (copy.exists() and copy.samefile(path)):
                shutil.copyfile(path, copy)
        plugins = tuple(copies.get(Path(plugin).name, plugin) for plugin in config.plugins)
        return config.model_copy(update={"plugins": plugins})

    def _describe(self, config: Config, prepared: Prepared) -> None:
        """Writes config.yaml, with where each component comes from, and environment.json."""
        text = dump_config(config)
        for _, kind, component in chosen(config):
            origin = self.host.entry(kind, component.name).origin
            text += f"# {kind} {component.name}: {origin if origin.version else origin.plugin}\n"
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")
        environment = {
            "packages": versions(),
            "git_commit": git_commit(),
            "tokens": str(prepared.path),
            "token_addresses": prepared.starts,
        }
        write_json(self.folder / "environment.json", environment)


def _as_stored(config: Config, monitor: str | None) -> Config:
    """The config with its monitor, without what signs a URL, which makes no difference later."""
    places = {split: getattr(config.data, split) for split in SPLITS}
    stored = {split: shown(place) for split, place in places.items() if isinstance(place, str)}
    evaluation = config.eval.model_copy(update={"monitor": monitor})
    data = config.data.model_copy(update=stored)
    return config.model_copy(update={"eval": evaluation, "data": data})


def _named(config: Config, starts: Mapping[str, str]) -> dict[str, str]:
    """What a run's files say of rows' places: of a variable's location the name, as the config."""
    return {
        split: str(place) if isinstance(place := getattr(config.data, split), Secret) else start
        for split, start in starts.items()
    }
