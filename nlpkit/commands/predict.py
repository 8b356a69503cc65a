"""`nlpkit predict`: texts, a file or standard input, in constant memory and in their order."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import deque
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from nlpkit.bundle.predict import load
from nlpkit.config.resolve import build
from nlpkit.config.schema import Component
from nlpkit.contracts import Row
from nlpkit.errors import DataError, InputError, closest
from nlpkit.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nlpkit.bundle.predict import Model
    from nlpkit.cli.render import Terminal
    from nlpkit.contracts import Source

Line = dict[str, Any]

_TABLE_ROWS = 1000


@click.command("predict")
@click.argument("run")
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option("--input", "source", metavar="FILE", help="csv, tsv, jsonl, or txt: a text a line.")
@click.option("--output", metavar="FILE", help="jsonl or csv; default: the terminal.")
@click.option(
    "--column",
    "columns",
    metavar="NAME",
    multiple=True,
    help="The input's column of texts, if not the task's own; twice for pairs.",
)
@click.option("--precision", type=click.Choice(["fp32", "auto"]), default="fp32")
@click.option("--trust-plugins", is_flag=True, help="Execute the plugins that a bundle brings.")
@click.pass_obj
def command(
    terminal: Terminal,
    run: str,
    texts: tuple[str, ...],
    source: str | None,
    output: str | None,
    columns: tuple[str, ...],
    precision: str,
    trust_plugins: bool,
) -> None:
    """Predict TEXTs, the texts of a file, or those of standard input, one a line.

    RUN is a run folder or a bundle. A pair of texts is two TEXTs, or two columns of the file.
    """
    if bool(texts) + (source is not None) > 1:
        raise click.UsageError("give TEXTs or --input, not both")
    if not texts and source is None and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("give TEXTs, --input FILE, or texts on standard input")
    if output is not None:
        _check_output(Path(output))
    model = load(run, precision=precision, trust_plugins=trust_plugins)
    lines = Lines(model, _rows(model, texts, source, columns))
    if output is None:
        _show(terminal, lines)
        lines.check()
    else:
        _save(lines, model, Path(output))
    if not lines.total:
        raise InputError(f"{source or 'standard input'}: has no texts")
    if lines.bad:
        terminal.note(f"{lines.bad} of {lines.total} texts could not be predicted; see their error")
    if output is not None:
        terminal.note(f"{lines.total} predictions in {output}")


def _check_output(path: Path) -> None:
    if path.suffix not in (".jsonl", ".csv"):
        raise InputError(f"--output {path}: must end in .jsonl or .csv")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.parent}")
    try:
        if path.is_dir():
            raise InputError(f"--output {path}: is a folder; name a file in it")
        with TemporaryDirectory(dir=path.parent, prefix=path.name):
            pass
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror}") from None


class Lines:
    """The lines of the output, one for each row and in its order.

    Attributes:
        total: Rows so far.
        bad: Those that could not be predicted.
    """

    def __init__(self, model: Model, rows: Iterable[Row | DataError]) -> None:
        self._model, self._rows = model, rows
        self._waiting: deque[Row | DataError] = deque()
        self._first: DataError | None = None
        self.total = self.bad = 0

    def __iter__(self) -> Iterator[Line]:
        for outcome in self._model.outcomes(self._noted()):
            line = {"text": self._text(self._waiting.popleft())}
            self.total += 1
            if isinstance(outcome, DataError):
                self.bad += 1
                self._first = self._first or outcome
                yield {**line, "error": str(outcome)}
            else:
                yield {**line, **outcome.row()}

    def check(self) -> None:
        """Raises what is wrong with the first text if no text at all could be predicted."""
        if self._first is not None and self.bad == self.total:
            raise self._first

    def _text(self, row: Row | DataError) -> object:
        if isinstance(row, DataError):
            return None
        texts = [row.values[column] for column in self._model.task.text_columns]
        return texts[0] if len(texts) == 1 else texts

    def _noted(self) -> Iterator[Row | DataError]:
        for row in self._rows:
            self._waiting.append(row)
            yield row


def _rows(
    model: Model, texts: tuple[str, ...], source: str | None, columns: tuple[str, ...]
) -> Iterator[Row | DataError]:
    wanted = tuple(model.task.text_columns)
    if source is not None and Path(source).suffix != ".txt":
        yield from _file_rows(model, source, columns or wanted)
        return
    if columns:
        raise click.UsageError("--column is for an --input with columns")
    if texts:
        if len(texts) % len(wanted):
            raise click.UsageError(f"the task takes pairs: {len(texts)} TEXTs are not pairs")
        if any("\udc80" <= letter <= "\udcff" for letter in "".join(texts)):
            raise InputError("a TEXT is not UTF-8")  # such letters stand for the bytes that are not
        for number, start in enumerate(range(0, len(texts), len(wanted)), start=1):
            values = texts[start : start + len(wanted)]
            yield Row(dict(zip(wanted, values, strict=True)), f"TEXT {number}")
        return
    if len(wanted) > 1:
        raise click.UsageError("the task takes pairs: give --input FILE with two columns")
    place = source or "standard input"
    for number, text in enumerate(_text_lines(source), start=1):
        yield Row({wanted[0]: text}, f"{place}:{number}")


def _file_rows(model: Model, location: str, columns: tuple[str, ...]) -> Iterator[Row | DataError]:
    """The rows of a file under the task's names of columns, which the first row must have."""
    wanted = tuple(model.task.text_columns)
    if len(columns) != len(wanted):
        raise click.UsageError(f"--column: the task takes {len(wanted)} columns of texts")
    files: Source = build(Component(name="files"), "source", model.host)
    checked = False
    for row in files.rows(location):
        if isinstance(row, DataError):
            yield row
            continue
        if not checked:
            _check_columns(row, columns, location)
            checked = True
        values = (row.values.get(column) for column in columns)
        yield replace(row, values=dict(zip(wanted, values, strict=True)))


def _check_columns(row: Row, columns: tuple[str, ...], location: str) -> None:
    for column in columns:
        if column not in row.values:
            names = [str(name) for name in row.values]
            raise DataError(
                location,
                column=column,
                problem="does not exist",
                suggestion=closest(column, names),
                remedy=f"the columns are: {', '.join(names)}; choose with --column",
            )


def _text_lines(path: str | None) -> Iterator[str]:
    place = path or "standard input"
    if path is None and isinstance(sys.stdin, io.TextIOWrapper):  # the locale has no say in it
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict")
    try:
        opened = Path(path).open(encoding="utf-8-sig") if path else nullcontext(sys.stdin)
        with opened as file:
            yield from (line.rstrip("\r\n") for line in file)
    except OSError as error:
        raise InputError(f"{place}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: is not UTF-8 ({error})") from None


def _show(terminal: Terminal, lines: Iterable[Line]) -> None:
    """Tables on a terminal, JSON lines when piped."""
    if not terminal.interactive:
        for line in lines:
            terminal.json(line)
        return
    remaining = iter(lines)
    while part := list(islice(remaining, _TABLE_ROWS)):
        columns = list(dict.fromkeys(name for line in part for name in line))
        terminal.table(columns, [[_shown(line.get(name)) for name in columns] for line in part])


def _save(lines: Lines, model: Model, path: Path) -> None:
    """A csv or jsonl file, which appears when all lines are in it."""
    with replacing(path) as partial:
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            if path.suffix == ".csv":
                table = csv.DictWriter(file, _columns(model), lineterminator="\n")
                table.writeheader()
                table.writerows(_cells(line) for line in lines)
            else:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        lines.check()


def _columns(model: Model) -> list[str]:
    """The columns of a csv file: a prediction of the model says which fields it has."""
    names = model.task.text_columns
    text = "text" if len(names) == 1 else tuple(names)
    (prediction,) = model.predict([text])
    return ["text", *prediction.row(), "error"]


def _cells(line: Line) -> Line:
    """Lists as JSON, so that a program can read them back."""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        for name, value in line.items()
    }


def _shown(value: object) -> object:
    if not isinstance(value, list):
        return value
    return ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in value)
