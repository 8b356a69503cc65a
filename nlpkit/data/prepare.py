"""From rows to token stores, once: the result is kept under a hash of all that it depends on.

A prepared folder holds recipe.json, schema.json, tokenizer.json, report.json, a token store for
each split and, where bad rows are quarantined, rejected.jsonl. It appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from nlpkit.config.resolve import build
from nlpkit.data import recipe
from nlpkit.data.encode import Encoder
from nlpkit.data.rows import BadRows, Rows, scan, split_off
from nlpkit.data.store import StoreWriter, TokenStore, write_synced
from nlpkit.errors import DataError, InputError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenizers import Tokenizer

    from nlpkit.cli.render import Terminal
    from nlpkit.config.schema import Config
    from nlpkit.contracts import Source, Task, TextInput
    from nlpkit.plugin.host import Host
    from nlpkit.plugin.records import TokenizerRecord

REJECTED = "rejected.jsonl"
"""The quarantined rows in a prepared folder: address, reason and values."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared folder.

    Attributes:
        path: The folder.
        schema: What the task learned from the training rows.
        tokenizer_path: The tokenizer.json; it truncates, and does not pad.
        stores: The examples of "train" and, where there are such rows, "validation" and "test".
        report: `rows`, `tokens` and `truncated` (a share of the rows) by split; `rejected`, how
            many rows, and `problems`, what was wrong with them.
    """

    path: Path
    schema: dict[str, Any]
    tokenizer_path: Path
    stores: dict[str, TokenStore]
    report: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> Prepared:
        """Opens a prepared folder.

        Raises:
            RunError: It is missing or damaged.
        """
        names = ("recipe", "schema", "tokenizer", "report")
        try:
            parts = {name: json.loads((path / f"{name}.json").read_bytes()) for name in names}
            starts = parts["recipe"]["starts"]
            splits = list(parts["report"]["rows"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: the prepared data are damaged ({error})") from error
        return cls(
            path=path,
            schema=parts["schema"],
            tokenizer_path=path / "tokenizer.json",
            stores={
                split: TokenStore.open(path / split, location=starts.get(split, starts["train"]))
                for split in splits
            },
            report=parts["report"],
        )


def prepare(config: Config, host: Host, terminal: Terminal) -> Prepared:
    """Tokenizes the rows of a resolved config, or finds that done; says which, and why.

    Raises:
        InputError: Rows, files or the tokenizer cannot be used; the message has address and remedy.
    """
    work = _Preparation(config, host, terminal)
    folder = _stores() / recipe.key(work.recipe)
    damage = ""
    if folder.exists():
        try:
            prepared = Prepared.open(folder)
        except RunError as error:
            damage = str(error)
        else:
            terminal.note(f"tokens: unchanged, from {folder}")
            return work.announced(work.relocated(prepared))
    terminal.note(work.reason(folder.parent, damage))
    with TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        work.make(made)
        _publish(made, folder)
    return work.announced(Prepared.open(folder))


def _stores() -> Path:
    cache = os.environ.get("NLPKIT_CACHE")
    if not cache:
        cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "nlpkit")
    folder = Path(cache).expanduser().absolute() / "tokens"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; set NLPKIT_CACHE to a folder") from error
    return folder


def _publish(made: Path, folder: Path) -> None:
    """Gives a finished folder its name; where another process was faster, its folder stays."""
    try:
        made.rename(folder)
    except OSError:
        try:
            Prepared.open(folder)
        except RunError:
            folder.rename(made.with_name("damaged"))
            _publish(made, folder)


class _Preparation:
    """The parts that one preparation needs, from a resolved config."""

    def __init__(self, config: Config, host: Host, terminal: Terminal) -> None:
        self.config, self.host, self.terminal = config, host, terminal
        self.source: Source = build(config.data, "source", host)
        self.task: Task = build(config.task, "task", host)
        self.locations = _locations(config, self.source)
        fingerprints = {
            split: self.source.fingerprint(location) for split, location in self.locations.items()
        }
        record = cast("TokenizerRecord", host.entry("tokenizer", config.tokenizer.name).record)
        self.tokenizer = None if record.trained else self._tokenizer(None)
        text = self.tokenizer.to_str() if self.tokenizer else None
        self.recipe = recipe.recipe(config, host, fingerprints, text)
        self.starts = {
            split: _start(self.source, location) for split, location in self.locations.items()
        }

    def reason(self, stores: Path, damage: str) -> str:
        """Why the rows have to be tokenized."""
        if damage:
            return f"tokens: rebuilt, because {damage}"
        changed = recipe.changes(stores, self.recipe, self.locations["train"])
        if changed:
            return f"tokens: rebuilt, because {', '.join(changed)} changed"
        return f"tokens: new for {self.starts['train'] or self.locations['train']}"

    def make(self, folder: Path) -> None:
        """Fills a prepared folder."""
        with ExitStack() as files:
            bad = BadRows(self.config.data.on_bad_rows)
            if bad.policy == "quarantine":
                opened = (folder / REJECTED).open("w", encoding="utf-8", errors="backslashreplace")
                bad.quarantine = files.enter_context(opened)
            splits = self._splits(bad)
            schema = self._schema(splits["train"])
            _write_json(folder / "schema.json", schema)
            tokenizer = self.tokenizer or self._tokenizer(_Texts(self.task, splits["train"]))
            write_synced(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
            encoder = Encoder(task=self.task, tokenizer=tokenizer, schema=schema)
            report = self._encode(encoder, splits, folder, bad)
        _write_json(folder / "report.json", report)
        self._write_recipe(folder)

    def announced(self, prepared: Prepared) -> Prepared:
        """Says how many rows are left out."""
        rejected, problems = prepared.report["rejected"], prepared.report["problems"]
        if rejected:
            rows = "1 bad row is" if rejected == 1 else f"{rejected:,} bad rows are"
            self.terminal.note(f"data: {rows} left out, the first: {problems[0]['problem']}")
        return prepared

    def relocated(self, prepared: Prepared) -> Prepared:
        """Puts the addresses right where the same rows now lie elsewhere."""
        old = json.loads((prepared.path / recipe.FILE).read_bytes())["starts"]
        moves = {
            _quoted(old[split]): _quoted(start)
            for split, start in self.starts.items()
            if old[split] not in ("", start)
        }
        if not moves:
            return prepared
        pattern = re.compile("|".join(map(re.escape, moves)))
        for name in (REJECTED, "report.json"):
            path = prepared.path / name
            if path.exists():
                text = path.read_text(encoding="utf-8")
                _replace(path, pattern.sub(lambda found: moves[found.group()], text))
        self._write_recipe(prepared.path)
        return Prepared.open(prepared.path)

    def _write_recipe(self, folder: Path) -> None:
        content = {"recipe": self.recipe, "locations": self.locations, "starts": self.starts}
        _replace(folder / recipe.FILE, json.dumps(content, indent=1, ensure_ascii=False))

    def _splits(self, bad: BadRows) -> dict[str, Rows]:
        """The good rows by split; every location is read before anything is made of one."""
        scans = {
            split: scan(self.source, location, self.task, bad)
            for split, location in self.locations.items()
        }
        bad.check(good=sum(len(rows) for rows, _ in scans.values()))
        splits = {split: rows for split, (rows, _) in scans.items()}
        for split, rows in splits.items():
            if not rows:
                where = self.starts[split] or rows.location
                raise InputError(f"{where}: there are no {split} rows that can be used")
        fraction = self.config.data.validation
        if not isinstance(fraction, float):
            return splits
        train, validation = split_off(*scans["train"], fraction=fraction, seed=self.config.seed)
        if not validation:
            raise InputError(
                f"data.validation: {fraction} of {len(train)} training rows is no row (a label "
                "keeps at least one row for training); give a larger fraction, a file, or null"
            )
        tests = {"test": splits["test"]} if "test" in splits else {}
        return {"train": train, "validation": validation, **tests}

    def _schema(self, rows: Rows) -> dict[str, Any]:
        try:
            schema = self.task.fit_schema(rows)
        except DataError as error:
            if error.address:
                raise
            where = self.starts["train"] or rows.location
            raise DataError(where, column=error.column, problem=error.problem) from None
        return cast("dict[str, Any]", json.loads(json.dumps(schema)))

    def _tokenizer(self, texts: _Texts | None) -> Tokenizer:
        tokenizer: Tokenizer = build(self.config.tokenizer, "tokenizer", self.host, texts)
        tokenizer.enable_truncation(self.config.tokenizer.max_length)
        tokenizer.no_padding()
        return tokenizer

    def _encode(
        self, encoder: Encoder, splits: Mapping[str, Rows], folder: Path, bad: BadRows
    ) -> dict[str, Any]:
        report: dict[str, Any] = {"rows": {}, "tokens": {}, "truncated": {}}
        total = sum(map(len, splits.values()))
        with self.terminal.bar("tokens", total, "rows") as bar:
            for split, rows in splits.items():
                start = self.starts.get(split, self.starts["train"])
                with StoreWriter(folder / split, location=start) as writer:
                    truncated = encoder.write(rows, writer, bad, bar)
                if not writer.count:
                    bad.check(good=0)
                    raise InputError(f"{start or rows.location}: no {split} row can be used")
                lengths = TokenStore.open(folder / split).lengths
                report["rows"][split] = writer.count
                report["tokens"][split] = int(lengths.sum())
                report["truncated"][split] = truncated / writer.count
        bad.check(good=sum(report["rows"].values()))
        return {**report, "rejected": bad.count, "problems": bad.summary()}


def _locations(config: Config, source: Source) -> dict[str, str]:
    data = config.data
    train = data.train or source.default("train")
    if train is None:
        raise InputError(f'data.train: missing; name the training rows of "{data.name}"')
    found = {"train": train}
    if isinstance(data.validation, str):
        found["validation"] = data.validation
    if test := data.test or source.default("test"):
        found["test"] = test
    return found


def _start(source: Source, location: str) -> str:
    """What the addresses of a location's rows begin with (`data/train.csv`); "" for nothing."""
    first = next(iter(source.rows(location)), None)
    start, _, line = first.address.rpartition(":") if first else ("", "", "")
    return start if line.isdigit() else ""


@dataclass(frozen=True)
class _Texts:
    """The texts of rows, as often as they are asked for."""

    task: Task
    rows: Rows

    def __iter__(self) -> Iterator[TextInput]:
        return map(self.task.texts, self.rows)


def _write_json(path: Path, value: Any) -> None:
    write_synced(path, json.dumps(value, indent=1, ensure_ascii=False))


def _quoted(start: str) -> str:
    """How JSON text begins an address that begins with `start`."""
    return json.dumps(start, ensure_ascii=False)[:-1] + ":"


def _replace(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write_synced(temporary, text)
    temporary.replace(path)
