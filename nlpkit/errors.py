"""Every error that nlpkit raises on purpose.

NlpkitError
├── InputError (ValueError)    the user's input is at fault: exit 2
│   ├── ConfigError            .problems has all of them at once
│   ├── DataError              .address .column .value: a row that cannot be used
│   ├── PluginError            a component is unknown, claimed twice, or its plugin is broken
│   ├── BundleError            no run or bundle, a damaged one, or one of a newer format
│   └── CheckpointError        a checkpoint is damaged, or of a newer format
├── RunError (RuntimeError)    the run failed: exit 1
│   └── NonFiniteError         the loss, the gradient or a logit is no longer a number
└── Interrupted                .run .signal: a signal ended it, after saving: exit 128 + signal
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nlpkit.secrets import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class NlpkitError(Exception):
    """Base of every error that nlpkit raises on purpose; no secret of a URL is in its message.

    Attributes:
        problems: What is wrong: one thing, but of a ConfigError.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(shown(each) if isinstance(each, str) else each for each in args))
        self.problems: Sequence[Problem] = (Problem(message=str(self)),)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles message and attributes, whatever the class is constructed from."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class InputError(NlpkitError, ValueError):
    """The user's input is at fault; the message has an address and a remedy."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a config, its data or its machine.

    Attributes:
        address: Where it stands: `banking.yaml:12`, `override train.epochs=x`, `data/train.csv:7`.
        key: The dotted config key, or "" where none is at fault.
        message: What is wrong.
        remedy: What to do about it, or "".
        severity: Warnings do not stop a run.
    """

    address: str = ""
    key: str = ""
    message: str
    remedy: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.address, self.key) if part)
        text = f"{where}: {self.message}" if where else self.message
        if self.remedy:  # which may follow what was probably meant
            text += f" ({self.remedy})" if text.endswith("?") else f"; {self.remedy}"
        return shown(text)


class ConfigError(InputError):
    """A config cannot be used; `problems` lists everything that is wrong, by file and line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = tuple(sorted(problems, key=_place))
        super().__init__("\n".join(map(str, found)))
        self.problems = found


class DataError(InputError):
    """A row, or a file of rows, cannot be used.

    Args:
        address: File and line, or the position of a row in memory.
        problem: What is wrong, as the end of a sentence about the value.
        column: The column at fault, if one is.
        value: The value at fault, if one is.
        suggestion: The value that was probably meant.
        remedy: What to do about it.
    """

    def __init__(
        self,
        address: str,
        *,
        problem: str,
        column: str | None = None,
        value: object = None,
        suggestion: str | None = None,
        remedy: str = "",
    ) -> None:
        self.address, self.column, self.value = address, column, value
        self.problem, self.suggestion, self.remedy = problem, suggestion, remedy
        subject = [] if value is None else [f'"{shorten(str(value))}"']
        text = " ".join([*subject, problem])
        if suggestion is not None:
            text += f'; did you mean "{column_name(suggestion)}"?'
        parts = [address] if address else []
        parts += [] if column is None else [f'column "{column_name(column)}"']
        super().__init__(": ".join([*parts, text]) + (f" ({remedy})" if remedy else ""))

    def advising(self, remedy: str) -> DataError:
        """The same error with another remedy."""
        names = ("address", "column", "value", "problem", "suggestion")
        return DataError(**{name: getattr(self, name) for name in names}, remedy=remedy)


class PluginError(InputError):
    """A component is unknown, claimed by two plugins, or its plugin cannot be loaded."""


class BundleError(InputError):
    """A folder is no run and no bundle, is damaged, or is of a newer format."""


class CheckpointError(InputError):
    """A checkpoint is damaged, or of a newer format; the message names the file."""


class RunError(NlpkitError, RuntimeError):
    """The run failed through no fault of its input."""


class NonFiniteError(RunError):
    """The loss or the gradient norm of a step, or a logit, is infinite or not a number."""


class Interrupted(NlpkitError):
    """A signal or a notebook's stop button ended a run; what it had learned is saved.

    Args:
        message: How far it came, and how to go on.
        signal: The signal's number, 2 for Ctrl-C.
        run: The `nlpkit.Run` to resume; None where nothing was learned yet.
    """

    def __init__(self, message: str, *, signal: int, run: Any = None) -> None:
        self.signal, self.run = signal, run
        super().__init__(message)


def _place(problem: Problem) -> tuple[bool, str, int]:
    """Sorts by file and line; what has no line stays in its order, at the end."""
    file, _, line = problem.address.rpartition(":")
    return (False, file, int(line)) if line.isdecimal() else (True, "", 0)


def closest(value: str, choices: Iterable[str]) -> str | None:
    """The choice that `value` was probably meant to be, or None."""
    import difflib

    folded = {choice.casefold(): choice for choice in choices}
    found = difflib.get_close_matches(value.casefold(), folded, n=1)
    return folded[found[0]] if found else None


def of_system(error: OSError) -> str:
    """What the system refused, and where: of a rename, what was to be replaced."""
    place = error.filename2 or error.filename
    reason = error.strerror or str(error)
    return f"{place}: {reason}" if place else reason


def shorten(text: str, limit: int = 60) -> str:
    """`text` on one line, cut at `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def column_name(name: object) -> str:
    """What messages call a column: its name, on one line, unless that is long."""
    text = str(name).replace("\n", r"\n")
    return text if len(text) <= 60 else shorten(text)
