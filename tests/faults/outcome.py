"""What became of a folder of checkpoints after a fault: judged alike for every kind of fault."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nlpkit.checkpoint.files import Checkpoint, newest, verify
from nlpkit.checkpoint.keeper import Keeper
from tests.checkpoint.small import about, files, holds, names

Find = Callable[[Callable[[str], None]], Checkpoint | None]
FURTHER = 99


@dataclass(frozen=True)
class Outcome:
    """One fault.

    Attributes:
        case: What was done to which file, or when the process was killed.
        unusable: Why the run can no longer be resumed, or save: "" if it can.
        silent: What was taken for what it is not, or was not said: "" if nothing.
        alarm: What was called damaged and is not, or was left behind: "" if nothing.
    """

    case: str
    unusable: str = ""
    silent: str = ""
    alarm: str = ""

    @property
    def good(self) -> bool:
        return not (self.unusable or self.silent or self.alarm)


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many cases there were, and how many of them ended badly."""
    outcomes = list(outcomes)
    return {
        "cases": len(outcomes),
        "unusable": sum(bool(each.unusable) for each in outcomes),
        "silent": sum(bool(each.silent) for each in outcomes),
        "alarms": sum(bool(each.alarm) for each in outcomes),
    }


def judge(
    case: str,
    find: Find,
    *,
    expected: Iterable[tuple[int, str]],
    damaged: Iterable[str] = (),
    further: Callable[[], str] = lambda: "",
) -> Outcome:
    """Resumes as a run would, and saves as it would go on.

    Args:
        case: Its name.
        find: Finds the newest checkpoint.
        expected: The steps and versions that it may be; none: there must be no checkpoint.
        damaged: What must be named, each in a message of its own, and nothing else.
        further: Saves once more; what is wrong then.
    """
    said: list[str] = []
    try:
        found = find(said.append)
    except Exception as error:
        return Outcome(case, unusable=f"finding the newest raised {error!r}")
    expected, missed = list(expected), [each for each in damaged if each not in "\n".join(said)]
    if found is None and expected:
        return Outcome(case, unusable=f"nothing was found; {said}")
    if found and not any(found.step == s and holds(found.path, s, v) for s, v in expected):
        return Outcome(case, silent=f"{found.path} was taken for whole")
    if missed:
        return Outcome(case, silent=f"not named: {missed}; {said}")
    if len(said) != len(list(damaged)):
        return Outcome(case, alarm=f"called damaged: {said}")
    return Outcome(case, unusable=further())


def saves(folder: Path, best: int | None = None) -> str:
    """What is wrong with a folder after one more save, or ""."""
    said: list[str] = []
    try:
        keeper = Keeper(folder, keep=2, backup=None, say=said.append)
        keeper.save(FURTHER, files(FURTHER), about(best), best=False)
        keeper.close()
        path = verify(folder / f"step-{FURTHER:08d}").path
    except Exception as error:
        return f"saving once more: {error!r}"
    found = newest(folder, said.append)
    left = [name for name in names(folder) if name.startswith(".") or name.endswith(".old")]
    if not holds(path, FURTHER) or not found or found.path != path or said or left:
        return f"after saving once more: {found} {said} {left}"
    return ""


@contextmanager
def copy_of(template: Path) -> Iterator[Path]:
    """A copy of a folder, beside it, for one case."""
    with TemporaryDirectory(dir=template.parent) as folder:
        yield shutil.copytree(template, Path(folder) / template.name)
