"""The only place that writes to the terminal; commands and observers are given a `Terminal`.

Results go to stdout (`say`, `table`, `json`); what is going on goes to stderr (`note`, `bar`,
`error`). Bars are live on a terminal (rich, imported then), lines now and then where stderr is
piped, and one display that is updated in place in a notebook. A letter that a stream's encoding
lacks is spelled in ASCII; JSON is ASCII as a whole there, so that it stays JSON.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import shutil
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from nlpkit.cli.table import layout
from nlpkit.files import json_text
from nlpkit.secrets import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import Progress, TaskID

    from nlpkit.errors import NlpkitError


class Bar:
    """How far a piece of work is. `advance` it as the work gets done.

    Attributes:
        label: What is being done.
        total: How much there is to do, in `unit`s; None where nobody knows.
        done: How much is done.
        detail: What was last said beside it.
    """

    def __init__(
        self, label: str, total: int | None, unit: str, view: _View, *, done: int = 0
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.detail = done, ""
        self._before = done
        self._view, self._started = view, time.monotonic()
        self._last = self._started

    def advance(self, amount: int = 1, detail: str = "") -> None:
        """Counts `amount` more as done; `detail` replaces what is said beside the bar."""
        self.done += amount
        self._last = time.monotonic()
        self.detail = detail or self.detail
        self._view.show(self)

    @property
    def elapsed(self) -> float:
        """Seconds from its beginning to the last advance: what follows is other work."""
        return self._last - self._started

    def __str__(self) -> str:
        total = "" if self.total is None else f"/{self.total:,}"
        parts = [f"{self.done:,}{total} {self.unit}".rstrip()]
        elapsed = self.elapsed
        if self.done > self._before and elapsed > 0:
            rate = (self.done - self._before) / elapsed
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
            left = max(0, (self.total or 0) - self.done) / rate
            parts.append(f"{duration(left)} left" if left else f"in {duration(elapsed)}")
        return "  ".join([*parts, self.detail]).rstrip()


class Terminal:
    """Where commands, observers and long work say what they do.

    Attributes:
        interactive: Whether stdout is a terminal, so that a person reads it.
    """

    def __init__(self) -> None:
        self.interactive = sys.stdout.isatty()
        self._notebook = _in_notebook()
        self._view: _View
        if self._notebook:
            self._view = _Display()
        else:
            self._view = _Live() if sys.stderr.isatty() else _Lines()

    def say(self, text: str = "") -> None:
        """A line of the result, on stdout."""
        sys.stdout.write(f"{text}\n")

    def note(self, text: str) -> None:
        """A line about what is going on, on stderr (in a notebook, where it is red, on stdout).

        No secret of a URL is in it.
        """
        file = sys.stdout if self._notebook else sys.stderr
        _write(file, _fitted(shown(text), file))

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = ""
    ) -> None:
        """A table on stdout, as wide as the terminal at most; piped, as wide as it is."""
        width = shutil.get_terminal_size().columns if self.interactive else None
        if title:
            self.say(_styled(title, "1", sys.stdout))
        for line in layout(columns, rows, width):
            self.say(line)

    def json(self, value: object, *, indent: int | None = None) -> None:
        """A JSON value on stdout, on one line unless indented; ASCII where that is not UTF-8."""
        plain = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
        self.say(json_text(value, ascii=plain, indent=indent))

    def error(self, error: NlpkitError) -> None:
        """What went wrong, on stderr: a line for each problem."""
        for problem in error.problems:
            severity = problem.severity
            color = "1;31" if severity == "error" else "1;33"
            fitted = _fitted(f"{severity}: {typed(str(problem))}", sys.stderr)
            fitted = fitted.removeprefix(severity)
            _write(sys.stderr, _styled(severity, color, sys.stderr) + fitted)

    def restore(self) -> None:
        """Ends the line of a live bar, and shows the cursor, for a process that was killed."""
        if sys.stderr.isatty():
            _write(sys.stderr, "\x1b[?25h")

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str = "", *, done: int = 0) -> Iterator[Bar]:
        """A progress bar with rate and remaining time; `done` of `total` units were done before.

        Without a `total` it says how much is done, how fast, and since when.
        """
        bar = Bar(label, total, unit, self._view, done=done)
        self._view.show(bar)
        try:
            yield bar
        finally:
            self._view.close(bar)


def typed(text: str) -> str:
    """A message of the library, which names arguments of Python, in the command line's words."""
    return _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')}", text)


_ARGUMENT = re.compile(r"\b(resume|trust_plugins|insecure|out|output|keep)=(True|DIR|FILE|NAMES)\b")


_SPELLED = {"─": "-", "━": "=", "╌": "-", "…": "...", "→": "->", "×": "x", "÷": "/", "≥": ">="}


def _spell(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: our own signs as they are typed, other letters as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    escape = "backslashreplace"
    parts = (_SPELLED.get(each) or each.encode("ascii", escape).decode() for each in letters)
    return "".join(parts), error.end


codecs.register_error("nlpkit.spell", _spell)


def spell(*streams: TextIO) -> None:
    """Lets streams take every letter, whatever their encoding is."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="nlpkit.spell")


def _fitted(text: str, file: TextIO) -> str:
    """On a terminal, lines that break between words, which a path has none of; else as it is."""
    if not file.isatty():
        return text
    wrapper = textwrap.TextWrapper(
        shutil.get_terminal_size().columns,
        subsequent_indent="  ",
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(map(wrapper.fill, text.split("\n")))


def duration(seconds: float) -> str:
    """`h:mm:ss`, or `m:ss` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _View(Protocol):
    """Shows bars. `show` is called at each advance, `close` once."""

    def show(self, bar: Bar) -> None: ...

    def close(self, bar: Bar) -> None: ...


class _Lines:
    """Plain lines: every 5 seconds at first, every minute in the end, and the last one."""

    def __init__(self) -> None:
        self._next: dict[Bar, float] = {}

    def show(self, bar: Bar) -> None:
        elapsed = bar.elapsed
        if elapsed >= self._next.setdefault(bar, 5.0):
            self._next[bar] = elapsed + min(60.0, max(5.0, elapsed / 20))
            _write(sys.stderr, f"{bar.label}: {bar}")

    def close(self, bar: Bar) -> None:
        del self._next[bar]
        _write(sys.stderr, f"{bar.label}: {bar}")


class _Live:
    """Bars of rich, all in one live display; lines that others print meanwhile go above it."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[Bar, TaskID] = {}

    def show(self, bar: Bar) -> None:
        if self._progress is None:
            self._progress = _rich_progress()
            self._progress.start()
        if bar not in self._tasks:
            self._tasks[bar] = self._progress.add_task(bar.label, total=bar.total, text=str(bar))
        self._progress.update(self._tasks[bar], completed=bar.done, text=str(bar))

    def close(self, bar: Bar) -> None:
        self.show(bar)
        del self._tasks[bar]
        if self._progress is not None and not self._tasks:
            self._progress.stop()
            self._progress = None


def _rich_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(file=sys.stderr, highlight=False),
        expand=True,
        redirect_stdout=sys.stdout.isatty(),  # a piped stdout is the result, and stays so
    )


class _Display:
    """One display of a notebook for each bar, updated in place through its display_id."""

    def __init__(self) -> None:
        self._handles: dict[Bar, Any] = {}
        self._next: dict[Bar, float] = {}

    def show(self, bar: Bar) -> None:
        if bar.elapsed >= self._next.get(bar, 0.0):
            self._next[bar] = bar.elapsed + 0.25
            self._update(bar)

    def close(self, bar: Bar) -> None:
        self._update(bar)
        del self._handles[bar], self._next[bar]

    def _update(self, bar: Bar) -> None:
        from IPython.display import display

        filled = round(20 * bar.done / bar.total) if bar.total else 20 * (bar.total == 0)
        content = {"text/plain": f"{bar.label} {'━' * filled}{'╌' * (20 - filled)} {bar}"}
        if bar in self._handles:
            self._handles[bar].update(content, raw=True)
        else:
            self._handles[bar] = display(  # type: ignore[no-untyped-call]
                content, raw=True, display_id=True
            )


def _in_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def _write(stream: TextIO, line: str) -> None:
    sys.stdout.flush()  # so that a log of both streams keeps their order
    try:
        stream.write(f"{line}\n")
        stream.flush()
    except OSError:  # its terminal was closed, its disk is full: no reason to end a run
        if stream is sys.stdout:
            raise
        silence(stream)


def nowhere() -> TextIO:
    """A stream whose text is read by nobody."""
    return Path(os.devnull).open("w", encoding="utf-8")


def silence(stream: TextIO) -> None:
    """Sends nowhere what could not be written, else it would fail once more at the exit."""
    with nowhere() as file:
        os.dup2(file.fileno(), stream.fileno())


def _styled(text: str, codes: str, stream: TextIO) -> str:
    plain = "NO_COLOR" in os.environ or not stream.isatty()
    return text if plain else f"\x1b[{codes}m{text}\x1b[0m"
