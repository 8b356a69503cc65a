"""From rows to token stores, once: the result is kept under a hash of all that it depends on.

A prepared folder holds recipe.json, schema.json, tokenizer.json, report.json, a token store for
each split and, where bad rows are quarantined, rejected.jsonl. It appears whole or not at all.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from tokenizers import Tokenizer

from nlpkit.config.resolve import build, called, check_model
from nlpkit.config.schema import revealed
from nlpkit.data import recipe
from nlpkit.data.encode import Encoder, fitted
from nlpkit.data.longtext import parted
from nlpkit.data.rows import BadRows, Rows, remarks, scan, split_off, undivided
from nlpkit.data.store import StoreWriter, TokenStore, write_synced
from nlpkit.data.vocabulary import unusual, vocabulary_of
from nlpkit.environment import cache_folder
from nlpkit.errors import DataError, InputError, RunError
from nlpkit.secrets import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nlpkit.cli.render import Terminal
    from nlpkit.config.schema import Config
    from nlpkit.contracts import Codec, Source, Task, Use
    from nlpkit.data.vocabulary import Roles
    from nlpkit.plugin.host import Host
    from nlpkit.plugin.records import TokenizerRecord

REJECTED = "rejected.jsonl"
"""The quarantined rows in a prepared folder: address, reason and values."""

_NO_STORES = "set NLPKIT_CACHE to a folder that can be written to"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared folder.

    Attributes:
        path: The folder.
        schema: What the task learned from the training rows.
        tokenizer_path: The tokenizer.json; it truncates, and does not pad.
        stores: The examples of "train" and, where there are such rows, "validation" and "test".
        recipe: All that they depend on, by dotted key.
        report: `rows`, `tokens` and `truncated` (a share of the rows) by split; where they are not
            as many as the rows, `samples`; for a windowed task `windows` (of a row, the mean) and
            `windowed` (the share of rows with more than one); `rejected`, how many rows, and
            `problems`, what was wrong with them; `remarks`, what is odd about the locations.
        starts: What the addresses of rows begin with now, by split of the config.
        moves: What they began with when the rows were tokenized, and what they begin with now.
    """

    path: Path
    schema: dict[str, Any]
    tokenizer_path: Path
    stores: dict[str, TokenStore]
    recipe: dict[str, Any]
    report: dict[str, Any]
    starts: dict[str, str]
    moves: Sequence[tuple[str, str]]

    @classmethod
    def open(cls, path: Path, *, starts: Mapping[str, str] | None = None) -> Prepared:
        """Opens a prepared folder, which nothing writes to: other processes may be using it.

        Args:
            path: The folder.
            starts: What the addresses of rows begin with where the same rows lie elsewhere now.

        Raises:
            RunError: It is missing or damaged.
        """
        names = ("recipe", "schema", "tokenizer", "report")
        try:
            parts = {name: json.loads((path / f"{name}.json").read_bytes()) for name in names}
            made, report = parts["recipe"]["starts"], parts["report"]
            begin = {**made, **(starts or {})}
            moves = [(made[split], begin[split]) for split in made if made[split]]
            for kind in report["problems"]:
                kind["problem"] = _moved(kind["problem"], moves)
            report["remarks"] = [_moved(remark, moves) for remark in report["remarks"]]
            splits = {split: begin.get(split, begin["train"]) for split in report["rows"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: the prepared data are damaged ({error})") from error
        return cls(
            path=path,
            schema=parts["schema"],
            tokenizer_path=path / "tokenizer.json",
            stores={
                split: TokenStore.open(path / split, location=start)
                for split, start in splits.items()
            },
            recipe=parts["recipe"]["recipe"],
            report=report,
            starts=begin,
            moves=moves,
        )

    def codec(self, config: Config, host: Host) -> Codec:
        """The codec of the task that the folder was prepared for."""
        task: Task = build(config.task, "task", host)
        tokenizer = Tokenizer.from_file(str(self.tokenizer_path))
        longest, roles = config.tokenizer.max_length, self.recipe.get(recipe.ROLES, {})
        return task.codec(self.schema, vocabulary_of(tokenizer, longest, roles))

    def write_rejected(self, folder: Path) -> None:
        """Writes the quarantined rows, if there are any, into a folder."""
        path = self.path / REJECTED
        if path.exists():
            with path.open(encoding="utf-8") as lines, _opened(folder / REJECTED) as file:
                for row in map(json.loads, lines):
                    row |= {name: _moved(row[name], self.moves) for name in ("address", "reason")}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")


def prepare(config: Config, host: Host, terminal: Terminal) -> Prepared:
    """Tokenizes the rows of a resolved config, or finds that done; says which, and why.

    Raises:
        InputError: Rows, files or the tokenizer cannot be used; the message has address and remedy.
    """
    work = _Preparation(config, host, terminal)
    folder = stores() / recipe.key(work.recipe)
    damage = ""
    if folder.exists():
        try:
            prepared = Prepared.open(folder, starts=work.starts)
        except RunError as error:
            damage = str(error)
        else:
            terminal.note("tokens: unchanged since they were made")
            return work.announced(prepared)
    terminal.note(work.reason(folder.parent, damage))
    with _temporary(folder.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        try:
            work.make(made)
        except InputError:  # what is odd is maybe why
            work.warn(map(str, remarks(work.source)))
            raise
        _publish(made, folder)
    return work.announced(Prepared.open(folder, starts=work.starts))


def stores() -> Path:
    """Where prepared folders are. Raises InputError where it cannot be made."""
    folder = cache_folder() / "tokens"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; {_NO_STORES}") from error
    return folder


def _temporary(folder: Path) -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(dir=folder, prefix=".")
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; {_NO_STORES}") from error


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
        self.locations = locations(config, self.source)
        if "train" not in self.locations:
            name = config.data.name
            raise InputError(f'data.train: missing; name the training rows of "{name}"')
        fingerprints = {
            split: self.source.fingerprint(location) for split, location in self.locations.items()
        }
        record = cast("TokenizerRecord", host.entry("tokenizer", config.tokenizer.name).record)
        self.tokenizer = None if record.trained else self._tokenizer(None)
        text = self.tokenizer.to_str() if self.tokenizer else None
        self.roles = unusual(self.tokenizer, roles_of(config, host))
        self.recipe = recipe.recipe(config, host, fingerprints, text, self.roles)
        self.starts = {
            split: _start(self.source, location) for split, location in self.locations.items()
        }

    def reason(self, stores: Path, damage: str) -> str:
        """Why the rows have to be tokenized."""
        if damage:
            return f"tokens: rebuilt, because {damage}"
        changed = recipe.changes(stores, self.recipe, shown(self.locations["train"]))
        if changed:
            return f"tokens: rebuilt, because {', '.join(changed)} changed"
        return f"tokens: new for {self.starts['train'] or self.locations['train']}"

    def make(self, folder: Path) -> None:
        """Fills a prepared folder."""
        with ExitStack() as files:
            bad = BadRows(self.config.data.on_bad_rows)
            if bad.policy == "quarantine":
                bad.quarantine = files.enter_context(_opened(folder / REJECTED))
            splits = self._splits(bad)
            schema = self._schema(splits["train"])
            _write_json(folder / "schema.json", schema)
            tokenizer = self.tokenizer or self._tokenizer(Texts(self.task, splits["train"]))
            longest = self.config.tokenizer.max_length
            codec = self.task.codec(schema, vocabulary_of(tokenizer, longest, self.roles))
            check_model(self.config, self.host, codec)
            stored = fitted(tokenizer, next(iter(codec.parts.values())), longest)
            write_synced(folder / "tokenizer.json", stored.to_str(pretty=True))
            report = self._encode(Encoder(self.task, codec, tokenizer), splits, folder, bad)
        _write_json(folder / "report.json", report)
        locations = {split: shown(each) for split, each in self.locations.items()}
        content = {"recipe": self.recipe, "locations": locations, "starts": self.starts}
        _write_json(folder / recipe.FILE, content)

    def warn(self, odd: Iterable[str]) -> None:
        """Says what is odd."""
        for remark in odd:
            self.terminal.note(f"warning: {remark}")

    def announced(self, prepared: Prepared) -> Prepared:
        """Says how many rows are left out, and what is odd."""
        self.warn(prepared.report["remarks"])
        rejected, problems = prepared.report["rejected"], prepared.report["problems"]
        if rejected:
            rows = "1 bad row is" if rejected == 1 else f"{rejected:,} bad rows are"
            self.terminal.note(f"data: {rows} left out, the first: {problems[0]['problem']}")
        return prepared

    def _splits(self, bad: BadRows) -> dict[str, Rows]:
        """The good rows by split; every location is read before anything is made of one."""
        scans: dict[str, tuple[Rows, np.ndarray]] = {}
        unusable: list[InputError] = []
        for split, location in self.locations.items():
            bad.first = None
            scans[split] = scan(self.source, location, self.task, bad)
            if not scans[split][0]:
                unusable.append(self._unusable(split, bad))
        bad.check(good=0 if unusable else sum(len(rows) for rows, _ in scans.values()))
        if unusable:
            raise unusable[0]
        splits = {split: rows for split, (rows, _) in scans.items()}
        fraction = self.config.data.validation
        if not isinstance(fraction, float):
            return splits
        train, validation = split_off(*scans["train"], fraction=fraction, seed=self.config.seed)
        if not validation:
            raise InputError(f"data.validation: {'; '.join(undivided(fraction, len(train)))}")
        tests = {"test": splits["test"]} if "test" in splits else {}
        return {"train": train, "validation": validation, **tests}

    def _unusable(self, split: str, bad: BadRows) -> InputError:
        of = split if split in self.starts else "train"
        where = self.starts[of] or self.locations[of]
        why = f"; the first problem: {bad.first}" if bad.first else ""
        return InputError(f"{where}: there are no {split} rows that can be used{why}")

    def _schema(self, rows: Rows) -> dict[str, Any]:
        try:
            schema = self.task.fit(rows)
        except DataError as error:
            if error.address:
                raise
            where = self.starts["train"] or rows.location
            column, problem, remedy = error.column, error.problem, error.remedy
            raise DataError(where, column=column, problem=problem, remedy=remedy) from None
        return cast("dict[str, Any]", json.loads(json.dumps(schema)))

    def _tokenizer(self, texts: Texts | None) -> Tokenizer:
        tokenizer: Tokenizer = build(self.config.tokenizer, "tokenizer", self.host, texts)
        return tokenizer

    def _encode(
        self, encoder: Encoder, splits: Mapping[str, Rows], folder: Path, bad: BadRows
    ) -> dict[str, Any]:
        report: dict[str, Any] = {"rows": {}, "tokens": {}, "truncated": {}}
        total = sum(map(len, splits.values()))
        with self.terminal.bar("tokens", total, "rows") as bar:
            for split, rows in splits.items():
                bad.first, before = None, bad.count
                start = self.starts.get(split, self.starts["train"])
                use: Use = "train" if split == "train" else "evaluate"
                with StoreWriter(folder / split, location=start) as writer:
                    truncated = encoder.write(rows, use, writer, bad, bar)
                if not writer.count:
                    bad.check(good=0)
                    raise self._unusable(split, bad)
                store, usable = TokenStore.open(folder / split), len(rows) - (bad.count - before)
                report["rows"][split] = usable
                report["tokens"][split] = int(store.lengths.sum())
                report["truncated"][split] = truncated / usable
                if len(store) != usable:
                    report.setdefault("samples", {})[split] = len(store)
                if encoder.in_windows:
                    windows = np.ones(1) if store.rows is None else store.rows
                    report.setdefault("windows", {})[split] = float(windows.mean())
                    report.setdefault("windowed", {})[split] = float((windows > 1).mean())
        bad.check(good=sum(report["rows"].values()))
        odd = list(map(str, remarks(self.source)))
        return {**report, "rejected": bad.count, "problems": bad.summary(), "remarks": odd}


def roles_of(config: Config, host: Host) -> Roles:
    """What a resolved config's tokenizer says of special tokens beside its tokenizer.json."""
    record = cast("TokenizerRecord", host.entry("tokenizer", config.tokenizer.name).record)
    return called("roles", config.tokenizer, "tokenizer", host) if record.roles else {}


def locations(config: Config, source: Source) -> dict[str, str]:
    """Where the rows of each split are, by the config or else by the source; those that are.

    Raises:
        InputError: The variable that holds one of them is not set.
    """
    data = config.data
    found = {
        "train": data.train or source.default("train"),
        "validation": None if isinstance(data.validation, float) else data.validation,
        "test": data.test or source.default("test"),
    }
    return {split: revealed(location) for split, location in found.items() if location is not None}


def held_out(config: Config, host: Host) -> Rows:
    """The good validation rows of a resolved config; its training rows where it has no others.

    Raises:
        InputError: The rows are not where the config says.
    """
    source: Source = build(config.data, "source", host)
    task: Task = build(config.task, "task", host)
    found = locations(config, source)
    rows, strata = scan(source, found.get("validation", found["train"]), task, BadRows("skip"))
    fraction = config.data.validation
    if isinstance(fraction, float):
        return split_off(rows, strata, fraction=fraction, seed=config.seed)[1]
    return rows


def _start(source: Source, location: str) -> str:
    """What the addresses of a location's rows begin with (`data/train.csv`); "" for nothing."""
    first = next(iter(source.rows(location)), None)
    start, _, line = first.address.rpartition(":") if first else ("", "", "")
    return start if line.isdigit() else ""


@dataclass(frozen=True)
class Texts:
    """The texts of rows, as often as they are asked for."""

    task: Task
    rows: Rows

    def __iter__(self) -> Iterator[str]:
        for row in self.rows:
            for text in self.task.texts(row, targets=True).values():
                yield from parted(text) if isinstance(text, str) else text


def _write_json(path: Path, value: Any) -> None:
    write_synced(path, json.dumps(value, indent=1, ensure_ascii=False))


def _moved(text: str, moves: Sequence[tuple[str, str]]) -> str:
    """A text that begins with an address, where the rows lie now."""
    for old, new in moves:
        if text.startswith(f"{old}:"):
            return new + text.removeprefix(old)
    return text


def _opened(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8", errors="backslashreplace")
