"""Finds what is wrong with a config and its data before anything is trained: without weights.

It reads and tokenizes the rows as a run does, and gives every row to the task; torch is imported
only where devices are in question.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from nlpkit.checking.machine import (
    disk_problems,
    export_problems,
    folder_problems,
    machine_problems,
    secret_problems,
    trains_elsewhere,
)
from nlpkit.checking.quality import Quality, TextFacts
from nlpkit.checkpoint.backup import backup_of
from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.config.resolve import build, called, check_model, chosen, monitor_of, resolve
from nlpkit.config.schema import Config, Secret, dotted
from nlpkit.contracts import Row
from nlpkit.data.encode import fitted
from nlpkit.data.memory import on_files, write_splits
from nlpkit.data.prepare import Texts, locations, roles_of
from nlpkit.data.rows import BadRows, Rows, remarks, scan, split_off, undivided
from nlpkit.data.vocabulary import USUAL, vocabulary_of
from nlpkit.environment import runs_folder
from nlpkit.errors import ConfigError, DataError, InputError, NlpkitError, Problem
from nlpkit.plugin.host import IMPORTS, Host, load
from nlpkit.training.watchers import build_observer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from tokenizers import Tokenizer

    from nlpkit.contracts import Resolution, Source, Task
    from nlpkit.plugin.records import ModelRecord, TokenizerRecord


@dataclass
class Findings:
    """What `examine` found.

    Attributes:
        config: The resolved config; None where it cannot be resolved.
        rows: How many rows can be used, by split.
        labels: How many labels the training rows have, where the task counts them.
        texts: How long the texts are in tokens; None where they could not be tokenized.
        problems: Everything that is wrong.
    """

    config: Config | None = None
    rows: dict[str, int] = field(default_factory=dict)
    labels: int = 0
    texts: TextFacts | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether there is no error; warnings do not stop a run."""
        return all(problem.severity == "warning" for problem in self.problems)


def check(
    config: Config | Mapping[str, Any] | str | Path,
    data: Mapping[str, Any] | None = None,
    *,
    host: Host | None = None,
) -> list[Problem]:
    """Every problem of a config, its components, its files, rows and labels.

    Args:
        config: A config from `load_config`, or what that takes.
        data: Rows in memory by split, as `train` takes them.
        host: Gives the components; None: all that are installed.
    """
    if data is None:
        return examine(config, host).problems
    try:
        host = host or Host.discover()
        config = config if isinstance(config, Config) else load_config(config)
        with TemporaryDirectory(prefix="nlpkit-") as folder:
            write_splits(data, Path(folder), config, host)
            return examine(on_files(config, Path(folder)), host).problems
    except InputError as error:
        return list(error.problems)


def examine(config: Config | Mapping[str, Any] | str | Path, host: Host | None = None) -> Findings:
    """What `check` finds, and what it learned on the way."""
    findings = Findings()
    try:
        host = host or Host.discover()
        loaded = config if isinstance(config, Config) else load_config(config)
        findings.config = resolve(loaded, host)
        source = build(findings.config.data, "source", host)
        task = build(findings.config.task, "task", host)
    except InputError as error:
        findings.problems += error.problems
        return findings
    findings.problems += start_problems(findings.config, host)
    if not trains_elsewhere(findings.config, host):
        findings.problems += folder_problems()
        findings.problems += _observer_problems(findings.config, host, findings.problems)
    findings.problems += _backup_problems(findings.config, host)
    _Data(findings, findings.config, host, source, task).check()
    return findings


def _backup_problems(config: Config, host: Host) -> Iterator[Problem]:
    """Why checkpoints cannot be copied, and why a run of this name would not start anew."""
    elsewhere = trains_elsewhere(config, host)
    if elsewhere and isinstance(config.checkpoint.backup, Secret):  # whose variable is set there
        return
    try:
        backup = backup_of(config, config.name)
    except ConfigError as error:
        yield from error.problems
        return
    new = not elsewhere and not (runs_folder() / config.name).exists()
    if backup and new and backup.exists():
        message = f"{backup}: has checkpoints of another run"
        remedy = "go on with it (--resume), choose another --out, or remove them"
        yield config.origin.warning(("checkpoint", "backup"), message, remedy)


def _observer_problems(config: Config, host: Host, found: Sequence[Problem]) -> Iterator[Problem]:
    """What observers say as they are built; those that cannot be imported are named already."""
    named = {problem.key for problem in found}
    for at, component in enumerate(config.observers):
        if dotted(path := ("observers", at)) in named:
            continue
        try:
            built = build_observer(component, host, Terminal())
        except InputError as error:
            yield config.origin.problem(path, str(error))
        else:
            if isinstance(built, NlpkitError):
                yield config.origin.warning(path, str(built), "a run goes on without it")


def start_problems(config: Config, host: Host, *, weights: bool = True) -> list[Problem]:
    """What keeps a resolved config from being trained here, whatever its rows are.

    Args:
        config: The resolved config.
        host: Has its components.
        weights: Whether the model needs weights; not where a checkpoint has them.
    """
    kinds = ("model", "tokenizer") if weights else ("tokenizer",)
    found = [*_loading_problems(config, host), *_file_problems(config, host, kinds)]
    if trains_elsewhere(config, host):  # where packages and files may be
        found = [replace(each, severity="warning") for each in found]
    else:
        found += [*secret_problems(config, host), *machine_problems(config, host)]
    return [*found, *export_problems(config, host)]


def _loading_problems(config: Config, host: Host) -> Iterator[Problem]:
    """Components that cannot be imported; nlpkit's own models and strategies need torch alone."""
    for path, kind, component in chosen(config):
        entry = host.entry(kind, component.name)
        heavy = kind in ("model", "strategy", "task") and entry.origin.distribution == "nlpkit-sdk"
        if heavy or kind == "exporter":  # whose own check follows
            continue
        try:
            for target in filter(None, (getattr(entry.record, name, "") for name in IMPORTS)):
                load(entry.record, target)
        except InputError as error:
            yield config.origin.problem(path, str(error))


def _file_problems(config: Config, host: Host, kinds: Sequence[str]) -> Iterator[Problem]:
    """What components of some kinds have to say of the files that they read."""
    for path, kind, component in chosen(config):
        record = host.entry(kind, component.name).record
        if kind not in kinds or not getattr(record, "check", ""):
            continue
        try:
            found: Sequence[Problem] = called("check", component, kind, host)
        except InputError as error:
            found = error.problems
        yield from (config.origin.placed(each, path) for each in found)


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

    def __init__(
        self, findings: Findings, config: Config, host: Host, source: Source, task: Task
    ) -> None:
        self.findings, self.config, self.host = findings, config, host
        self.source, self.task = source, task
        self.bad: dict[str, _Alike] = {}

    def check(self) -> None:
        """Reads every location, and adds what is wrong to the findings."""
        try:
            places = locations(self.config, self.source)
        except InputError as error:  # a variable is not set; here it is named already
            if trains_elsewhere(self.config, self.host):
                self._complain("data", f"no row is looked at: {error}", warning=True)
            return
        if "train" not in places:
            remedy = f'it names the training rows of "{self.config.data.name}"'
            self._complain("data.train", "missing", remedy)
        splits = self._splits(places)
        self.findings.problems += remarks(self.source)
        self.findings.rows = {split: len(rows) for split, rows in splits.items()}
        if splits.get("train"):
            try:
                self._check_labels(splits)
            except InputError as error:
                self.findings.problems += map(self.config.origin.placed, error.problems)
        for split, bad in self.bad.items():
            good = self.findings.rows.get(split, 0)
            self.findings.problems += bad.problems(self.config.data.on_bad_rows, good=good)

    def _splits(self, places: Mapping[str, str]) -> dict[str, Rows]:
        """The usable rows of every split that can be read."""
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
        return splits

    def _complain(self, key: str, message: str, remedy: str = "", *, warning: bool = False) -> None:
        origin, path = self.config.origin, tuple(key.split("."))
        problem = (origin.warning if warning else origin.problem)(path, message, remedy)
        self.findings.problems.append(problem)

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
        self._complain("data.validation", *undivided(fraction, len(rows)))
        return {"train": train}

    def _check_labels(self, splits: Mapping[str, Rows]) -> None:
        try:
            schema = self.task.fit(splits["train"])
        except DataError as error:
            self._complain("data.train", str(error))
            return
        found = self._tokenizer(splits["train"])
        tokenizer = found or _stand_in()
        longest = self.config.tokenizer.max_length
        roles = roles_of(self.config, self.host) if found else {}
        codec = self.task.codec(schema, vocabulary_of(tokenizer, longest, roles))
        for part in codec.parts.values():  # windows may be too short
            fitted(tokenizer, part, codec.vocabulary.max_length)
        self.findings.labels = len(codec.labels)
        quality = Quality(self.config, self.task, codec, tokenizer, splits)
        for split, rows in splits.items():
            bad = self.bad.get(split) or self.bad["train"]
            before = bad.count
            quality.read(rows, bad, "train" if split == "train" else "evaluate")
            self.findings.rows[split] -= bad.count - before
        self.findings.problems += quality.problems_of_rows()
        if found:
            self._check_ids(tokenizer)
            trained = self._tokenizer_record().trained
            self.findings.problems += quality.problems_of_tokens(trained=trained)
            self.findings.texts = quality.facts()
        if not trains_elsewhere(self.config, self.host):
            self.findings.problems += disk_problems(self.config, tokens=quality.bytes)
        monitor_of(self.config, codec)
        check_model(self.config, self.host, codec)

    def _check_ids(self, tokenizer: Tokenizer) -> None:
        record = cast("ModelRecord", self.host.entry("model", self.config.model.name).record)
        if not record.resolve:
            return
        from tokenizers import Tokenizer

        found: Resolution = called("resolve", self.config.model, "model", self.host)
        known, tokens = found.vocabulary, tokenizer.get_vocab()
        size, message = max(tokens.values()) + 1, ""
        if known is not None and size > known:
            message = f"the tokenizer gives {size} different ids, the model knows {known}"
        elif found.tokenizer and found.tokenizer.is_file():
            if Tokenizer.from_file(str(found.tokenizer)).get_vocab() != tokens:
                message = f"its tokens are not those of {found.tokenizer}, which the model knows"
        if message:
            self._complain("tokenizer", message, "take the one that was made for the model")

    def _tokenizer(self, rows: Rows) -> Tokenizer | None:
        """The run's tokenizer; None where it cannot be had here."""
        texts = Texts(self.task, rows) if self._tokenizer_record().trained else None
        try:
            tokenizer: Tokenizer = build(self.config.tokenizer, "tokenizer", self.host, texts)
        except InputError as error:
            elsewhere = trains_elsewhere(self.config, self.host)
            if not any(each.message in str(error) for each in self.findings.problems):
                self._complain("tokenizer", str(error), warning=elsewhere)
            return None
        return tokenizer

    def _tokenizer_record(self) -> TokenizerRecord:
        record = self.host.entry("tokenizer", self.config.tokenizer.name).record
        return cast("TokenizerRecord", record)


def _stand_in() -> Tokenizer:
    """One token a word: the task sees tokens with their places where there is no tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {names[0]: id for id, names in enumerate(USUAL.values())}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=USUAL["unk"][0]))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
