"""Finds what is wrong with a config and its data before anything is trained: without weights.

It reads the rows as a run does, and gives every row to the task, with stand-in tokens; torch is
imported only where devices are in question.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from nlpkit.checkpoint.backup import backup_of
from nlpkit.config.load import load_config
from nlpkit.config.resolve import build, options_of, resolve
from nlpkit.config.schema import Config
from nlpkit.contracts import Row
from nlpkit.data.prepare import locations
from nlpkit.data.rows import BadRows, Rows, scan, split_off
from nlpkit.errors import ConfigError, DataError, InputError, Problem
from nlpkit.metrics import monitor_of
from nlpkit.plugin.host import Host, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from tokenizers import Tokenizer

    from nlpkit.contracts import Schema, Source, Strategy, Task
    from nlpkit.plugin.records import (
        ExporterRecord,
        LauncherRecord,
        StrategyRecord,
        TokenizerRecord,
    )

_NAMED = 5  # labels in one message


@dataclass
class Findings:
    """What `examine` found.

    Attributes:
        config: The resolved config; None where it cannot be resolved.
        rows: How many rows can be used, by split.
        labels: How many labels the training rows have, where the task counts them.
        problems: Everything that is wrong.
    """

    config: Config | None = None
    rows: dict[str, int] = field(default_factory=dict)
    labels: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether there is no error; warnings do not stop a run."""
        return all(problem.severity == "warning" for problem in self.problems)


def check(
    config: Config | Mapping[str, Any] | str | Path, host: Host | None = None
) -> list[Problem]:
    """Every problem of a config, its components, its files, rows and labels.

    Args:
        config: A config from `load_config`, or what that takes.
        host: Gives the components; None: all that are installed.
    """
    return examine(config, host).problems


def examine(config: Config | Mapping[str, Any] | str | Path, host: Host | None = None) -> Findings:
    """What `check` finds, and what it learned on the way."""
    findings = Findings()
    try:
        host = host or Host.discover()
        loaded = config if isinstance(config, Config) else load_config(config)
        findings.config = resolve(loaded, host)
        source = build(findings.config.data, "source", host)
        task = build(findings.config.task, "task", host)
    except ConfigError as error:
        findings.problems += error.problems
        return findings
    except InputError as error:
        findings.problems.append(Problem(message=str(error)))
        return findings
    findings.problems += machine_problems(findings.config, host)
    findings.problems += tokenizer_problems(findings.config, host)
    try:
        backup_of(findings.config, findings.config.name)
    except ConfigError as error:
        findings.problems += error.problems
    _Data(findings, findings.config, source, task).check()
    return findings


def machine_problems(config: Config, host: Host) -> list[Problem]:
    """What a resolved config asks for that this machine has not, and GPUs that stay idle."""
    if cast("LauncherRecord", host.entry("launcher", config.launch.name).record).remote:
        return []
    if importlib.util.find_spec("torch") is None:
        message = "torch is not installed here, and training needs it"
        remedy = "pip install 'nlpkit-sdk[train]'"
        return [Problem(message=message, remedy=remedy, severity="warning")]
    missing = list(_missing(config, host))
    if not _asks_for_devices(config):
        return missing
    try:
        return [*missing, *_devices(config, host)]
    except ConfigError as error:
        return [
            config.origin.problem(tuple(problem.key.split(".")), problem.message, problem.remedy)
            for problem in error.problems
        ]
    except InputError as error:
        return [Problem(message=str(error))]


def tokenizer_problems(config: Config, host: Host) -> list[Problem]:
    """What a resolved config's tokenizer has to say of the files that it reads."""
    record = cast("TokenizerRecord", host.entry("tokenizer", config.tokenizer.name).record)
    if not record.check:
        return []
    try:
        options = options_of(config.tokenizer, "tokenizer", host)
        found: Sequence[Problem] = load(record, record.check)(options)
    except ConfigError as error:
        found = error.problems
    except InputError as error:
        found = [Problem(key="tokenizer", message=str(error))]
    address = config.origin.address
    return [replace(each, address=address(tuple(each.key.split(".")))) for each in found]


def _missing(config: Config, host: Host) -> Iterator[Problem]:
    """What the formats of `export` need, before a run has trained for nothing."""
    for place, component in enumerate(config.export):
        record = cast("ExporterRecord", host.entry("exporter", component.name).record)
        for module in record.needs:
            if importlib.util.find_spec(module) is None:
                message = f"{component.name} needs {module}, which is not installed"
                remedy = f"pip install 'nlpkit-sdk[{record.extra}]'"
                yield config.origin.problem(("export", place), message, remedy)


def _asks_for_devices(config: Config) -> bool:
    """Whether it is worth the seconds of importing torch."""
    open_ended = config.precision == "fp16" or shutil.which("nvidia-smi") is not None
    return (
        config.strategy.name != "single"
        or config.device.startswith("cuda")
        or (config.device == "auto" and open_ended)
    )


def _devices(config: Config, host: Host) -> Iterator[Problem]:
    """What is wrong with devices and precision here, and which GPUs stay idle."""
    import torch

    from nlpkit.training.precision import resolve_device, resolve_precision
    from nlpkit.training.ranks import ranks_of

    def warning(message: str, remedy: str = "") -> Problem:
        problem = config.origin.problem(("strategy",), message, remedy)
        return replace(problem, severity="warning")

    device = resolve_device(config.device)
    record = cast("StrategyRecord", host.entry("strategy", config.strategy.name).record)
    resolve_precision(config.precision, device, record.precisions)
    used = ranks_of(config, host)
    if not used:
        strategy: Strategy = build(config.strategy, "strategy", host, device)
        used = strategy.replicas
        yield from map(warning, getattr(strategy, "notes", ()))
    found = torch.cuda.device_count()
    if device.type == "cuda" and device.index is None and used < found:
        yield warning(f"{found - used} of {found} GPUs stay idle", "strategy: ddp uses them")


class _Alike(BadRows):
    """Bad rows as problems: one for each kind, with the first row's address."""

    def problems(self, policy: str, *, good: int) -> Iterator[Problem]:
        for error, count in self._alike.values():
            rows = f"{count:,} such row{'s' if count > 1 else ''}"
            if good:
                drop = "data.on_bad_rows: skip drops them"
                rows += f"; {drop}" if policy == "error" else ", left out"
            yield Problem(
                address=error.address,
                message=str(error).removeprefix(f"{error.address}: "),
                remedy=rows,
                severity="error" if policy == "error" or not good else "warning",
            )

    def knows(self, error: DataError) -> bool:
        """Whether a row before had this problem."""
        return (error.column, error.problem) in self._alike


class _Data:
    """Checks the rows of a resolved config."""

    def __init__(self, findings: Findings, config: Config, source: Source, task: Task) -> None:
        self.findings, self.config, self.source, self.task = findings, config, source, task
        self.bad: dict[str, _Alike] = {}

    def check(self) -> None:
        """Reads every location, and adds what is wrong to the findings."""
        places = locations(self.config, self.source)
        if "train" not in places:
            remedy = f'it names the training rows of "{self.config.data.name}"'
            self._complain("data.train", "missing", remedy)
        scans = {
            split: found
            for split, location in places.items()
            if (found := self._scan(split, location)) is not None
        }
        splits = {split: rows for split, (rows, _) in scans.items()}
        fraction = self.config.data.validation
        if fraction is None:
            self._check_effect()
        if splits.get("train") and isinstance(fraction, float):
            splits |= self._split_off(*scans["train"], fraction)
        self.findings.rows = {split: len(rows) for split, rows in splits.items()}
        if splits.get("train"):
            try:
                self._check_labels(splits)
            except ConfigError as error:
                for problem in error.problems:
                    self._complain(problem.key, problem.message, problem.remedy)
        for split, bad in self.bad.items():
            good = self.findings.rows.get(split, 0)
            self.findings.problems += bad.problems(self.config.data.on_bad_rows, good=good)

    def _complain(self, key: str, message: str, remedy: str = "", *, warning: bool = False) -> None:
        self.findings.problems.append(
            Problem(
                address=self.config.origin.address(tuple(key.split("."))),
                key=key,
                message=message,
                remedy=remedy,
                severity="warning" if warning else "error",
            )
        )

    def _check_effect(self) -> None:
        train, evaluation = self.config.train, self.config.eval
        given = {"train.early_stopping": train.early_stopping, "eval.monitor": evaluation.monitor}
        for key in (key for key, value in given.items() if value is not None):
            message = "has no effect: data.validation is null"
            self._complain(key, message, "give validation rows", warning=True)

    def _scan(self, split: str, location: str) -> tuple[Rows, np.ndarray] | None:
        """The usable rows of a location, and their strata; None where it cannot be read."""
        bad = self.bad[split] = _Alike("skip")
        try:
            rows, strata = scan(self.source, location, self.task, bad)
            first = next((row for row in self.source.rows(location) if isinstance(row, Row)), None)
        except DataError as error:
            self._complain(f"data.{split}", str(error))
            return None
        if not bad.count and not len(rows):
            remedy = "name a location that has some"
            self._complain(f"data.{split}", f"there are no {split} rows", remedy)
        if first is not None and not len(rows):
            self._check_target(first, bad)
        return rows, strata

    def _check_target(self, row: Row, bad: _Alike) -> None:
        """Finds a wrong target column behind a wrong text column: `scan` stops at the first."""
        try:
            self.task.stratum(row)
        except DataError as error:
            if not bad.knows(error):
                bad.add(error)

    def _split_off(self, rows: Rows, strata: np.ndarray, fraction: float) -> dict[str, Rows]:
        train, validation = split_off(rows, strata, fraction=fraction, seed=self.config.seed)
        if len(validation):
            return {"train": train, "validation": validation}
        message = f"{fraction} of {len(rows):,} training rows is no row"
        self._complain("data.validation", message, "give a larger fraction, a file, or null")
        return {"train": train}

    def _check_labels(self, splits: Mapping[str, Rows]) -> None:
        try:
            schema = self.task.fit_schema(splits["train"])
        except DataError as error:
            self._complain("data.train", str(error))
            return
        counts: Mapping[str, int] = schema.get("counts") or {}
        self.findings.labels = len(counts)
        single = [label for label, count in counts.items() if count == 1]
        if single:
            labels = ", ".join(single[:_NAMED]) + (", …" if len(single) > _NAMED else "")
            message = f"{len(single)} of {len(counts)} labels have a single training row: {labels}"
            self._complain("data.train", message, "give them more rows", warning=True)
        tokenizer = _stand_in()
        for split, rows in splits.items():
            bad = self.bad.get(split) or self.bad["train"]
            before = bad.count
            for row in rows:
                self._encode(row, schema, tokenizer, bad)
            self.findings.rows[split] -= bad.count - before
        monitor_of(self.config, self.task, schema)

    def _encode(self, row: Row, schema: Schema, tokenizer: Tokenizer, bad: BadRows) -> None:
        text = self.task.texts(row)
        words = isinstance(text, list)
        first, second = text if isinstance(text, tuple) else (text, None)
        try:
            self.task.encode(row, tokenizer.encode(first, second, is_pretokenized=words), schema)
        except DataError as error:
            bad.add(error, row)


def _stand_in() -> Tokenizer:
    """One token a word: the task sees tokens with their places, and no tokenizer is trained."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
