"""SIGKILL before every file operation of a save, a copy or a fetch; reading changes nothing.

`python -m tests.faults.killing FOLDER REPORT [PAIRS]`: a process without threads that forks one for
each case; an audit hook and a patched fsync count the operations there, and kill at one of them.
Each write of a part of a file is an operation too. With PAIRS, so many random cases follow in which
the process that goes on is killed as well.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from nlpkit.checkpoint.backup import Backup
from nlpkit.checkpoint.files import folder_name, newest, settle, verify
from nlpkit.checkpoint.keeper import Keeper
from nlpkit.errors import CheckpointError
from tests.checkpoint.remotes import flip
from tests.checkpoint.small import about, files, holds, names, save
from tests.faults.outcome import Outcome, judge, saves

EVENTS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Tick = Callable[[], None]
Have = Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Scenario:
    """What is killed.

    Attributes:
        name: Its name.
        prepare: Makes the folder as it is before.
        act: What is killed; told what to call between the parts of a file.
        before: Steps and versions that are whole before, the newest first.
        after: And those that are whole once the new one is.
        damaged: Whether the newest is damaged before.
    """

    name: str
    prepare: Callable[[Path], object]
    act: Callable[[Path, Tick], object]
    before: Have = ()
    after: Have = ()
    damaged: bool = False


def saving(folder: Path, tick: Tick, step: int, best: int | None, version: str = "") -> None:
    keeper = Keeper(folder, keep=2, backup=None, say=str)
    keeper.save(step, files(step, version, tick), about(best), best=step == best)
    keeper.close()


def three(folder: Path) -> None:
    for step in (10, 20, 30):
        save(folder, step, best=10)
    (folder / "last").write_text("step-00000030\n")


def damaged_newest(folder: Path) -> None:
    three(folder)
    flip(folder / "step-00000030" / "model.safetensors")


def left_behind(folder: Path) -> None:
    """By processes that were killed while they wrote, removed and replaced."""
    three(folder)
    shutil.copytree(folder / "step-00000030", folder / ".step-00000040.17")
    (folder / ".step-00000040.17" / "manifest.json").unlink()
    shutil.copytree(folder / "step-00000010", folder / ".step-00000005.gone")
    (folder / "step-00000030").rename(folder / "step-00000030.old")


def copies(folder: Path) -> None:
    three(folder / "original")
    backup = Backup(str(folder / "copies"), "cards")
    for step in (10, 20):
        backup.copy(folder / "original" / folder_name(step))


def more_copies(folder: Path) -> None:
    copies(folder)
    copying(folder)


def copying(folder: Path, _tick: Tick = int) -> None:
    backup = Backup(str(folder / "copies"), "cards")
    backup.copy(folder / "original" / folder_name(30))
    backup.prune(30, {10, 30})


def fetching(folder: Path, _tick: Tick = int) -> None:
    Backup(str(folder / "copies"), "cards").newest(folder / "fetched", 0, str)


THREE = ((30, ""), (20, ""), (10, ""))
SAVES = [
    Scenario(
        "first save",
        prepare=Path.mkdir,
        act=partial(saving, step=10, best=10),
        before=(),
        after=((10, ""),),
    ),
    Scenario(
        "save that prunes",
        prepare=three,
        act=partial(saving, step=40, best=10),
        before=THREE,
        after=((40, ""), (30, ""), (10, "")),
    ),
    Scenario(
        "save of a new best",
        prepare=three,
        act=partial(saving, step=40, best=40),
        before=THREE,
        after=((40, ""), (30, "")),
    ),
    Scenario(
        "save of the same step",
        prepare=three,
        act=partial(saving, step=30, best=10, version="second"),
        before=THREE,
        after=((30, "second"), (20, ""), (10, "")),
    ),
    Scenario(
        "save over a damaged one",
        prepare=damaged_newest,
        act=partial(saving, step=30, best=10),
        before=THREE[1:],
        after=THREE,
        damaged=True,
    ),
    Scenario(
        "save after others were killed",
        prepare=left_behind,
        act=partial(saving, step=30, best=10, version="second"),
        before=THREE,
        after=((30, "second"), (20, ""), (10, "")),
    ),
]
FETCH = Scenario("fetch from a backup", prepare=more_copies, act=fetching)
COPY = Scenario("copy to a backup", prepare=copies, act=copying)


class Operations:
    """Counts the file operations of this process, and kills it before one of them."""

    def __init__(self, at: int) -> None:
        self.count, self.at = 0, at
        self._fsync = os.fsync
        sys.addaudithook(self._hook)
        os.fsync = self._synced

    def tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if event in EVENTS or (event == "open" and int(str(args[2])) & WRITES):
            self.tick()

    def _synced(self, file: int) -> None:
        self.tick()
        self._fsync(file)


def run(act: Callable[[Tick], object], at: int = 0) -> int:
    """Acts in a process of its own, killed before operation `at`; how many it did, -1 if killed."""
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            operations = Operations(at)
            act(operations.tick)
            os.write(write, str(operations.count).encode())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return -1
    return int(answer)  # empty: it raised, and said what


def whole(folder: Path, have: Have) -> bool:
    """Whether all of these are there under their names, each whole."""
    try:
        return all(holds(verify(folder / folder_name(s)).path, s, v) for s, v in have)
    except CheckpointError:
        return False


def judged(scenario: Scenario, case: str, folder: Path, *, killed_twice: bool = False) -> Outcome:
    """What became of a folder of checkpoints whose process was killed while it saved."""
    settle(folder)
    found = newest(folder, str)
    new = scenario.after[0]
    committed = found is not None and found.step == new[0] and holds(found.path, *new)
    have = scenario.after if committed else scenario.before
    if not (killed_twice or whole(folder, have)):
        return Outcome(case, unusable=f"not all of {have} are there: {names(folder)}")
    return judge(
        case,
        partial(newest, folder),
        expected=have[:1],
        damaged=[folder_name(30)] if scenario.damaged and not committed else [],
        further=partial(saves, folder, have[-1][0] if have else None),
    )


def judged_copy(_: Scenario, case: str, folder: Path) -> Outcome:
    """What became of a backup: the older or the newer is whole, and copying again mends it."""
    backup, said = Backup(str(folder / "copies"), "cards"), list[str]()
    found = backup.newest(folder / "fetched", 0, said.append)
    if not found or found.step not in (20, 30):
        return Outcome(case, unusable=f"found {found}; {said}")
    if not holds(found.path, found.step) or not whole(folder / "fetched", [(10, "")]):
        return Outcome(case, silent=f"{found.path} or its best was taken for whole")
    begun = (folder / "copies" / "cards" / folder_name(30)).exists()
    if len(said) != (begun and found.step == 20):
        return Outcome(case, alarm=f"said: {said}")
    run(partial(copying, folder))
    mended = whole(folder / "copies" / "cards", [(30, ""), (10, "")])
    return Outcome(case, unusable="" if mended else "copying again did not mend it")


def judged_fetch(_: Scenario, case: str, folder: Path) -> Outcome:
    """What became of a folder: the best is fetched before the newest, and both at last."""
    found = newest(folder / "fetched", str)
    if found and not whole(folder / "fetched", [(10, ""), (30, "")][: 1 + (found.step == 30)]):
        return Outcome(case, silent=f"{found.path} was taken for whole: {names(folder)}")
    run(partial(fetching, folder))
    if names(folder / "fetched") != [folder_name(10), folder_name(30)]:
        return Outcome(case, unusable=f"fetching again: {names(folder / 'fetched')}")
    again = whole(folder / "fetched", [(30, ""), (10, "")])
    return Outcome(case, unusable="" if again else "fetching again did not mend it")


def cases(scenario: Scenario, root: Path) -> list[Outcome]:
    """Kills a scenario at each of its operations."""
    judges = {COPY.name: judged_copy, FETCH.name: judged_fetch}
    template, folder = root / "template", root / "checkpoints"
    scenario.prepare(template)
    shutil.copytree(template, folder)
    outcomes: list[Outcome] = []
    operations = run(partial(scenario.act, folder))
    for at in range(1, operations + 1):
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        case = f"{scenario.name}, killed before operation {at} of {operations}"
        if run(partial(scenario.act, folder), at) != -1:
            outcomes.append(Outcome(case, unusable="it was not killed"))
        else:
            outcomes.append(judges.get(scenario.name, judged)(scenario, case, folder))
    shutil.rmtree(folder)
    shutil.rmtree(template)
    return outcomes


def pairs(count: int, root: Path, generator: random.Random) -> list[Outcome]:
    """Kills a save somewhere, and the one that goes on somewhere else."""
    outcomes = []
    for _ in range(count):
        scenario, folder = generator.choice(SAVES), root / "checkpoints"
        scenario.prepare(folder)
        first, second = generator.randint(1, 90), generator.randint(1, 90)
        run(partial(scenario.act, folder), first)
        run(partial(scenario.act, folder), second)
        case = f"{scenario.name}, killed before operation {first}, then {second}"
        outcomes.append(judged(scenario, case, folder, killed_twice=True))
        shutil.rmtree(folder)
    return outcomes


if __name__ == "__main__":
    root, report = Path(sys.argv[1]), Path(sys.argv[2])
    everything = [*SAVES, FETCH, COPY]
    for scenario in everything:  # imports whatever is imported on the way
        scenario.prepare(root / scenario.name)
        scenario.act(root / scenario.name, int)
    found = [outcome for scenario in everything for outcome in cases(scenario, root)]
    found += pairs(int((sys.argv[3:] or ["0"])[0]), root, random.Random(13))
    report.write_text(json.dumps([asdict(outcome) for outcome in found]))
