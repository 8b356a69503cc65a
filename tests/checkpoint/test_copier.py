"""A Keeper whose backup is slow, fails, is down, or comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nlpkit.checkpoint.backup import Backup
from nlpkit.checkpoint.files import verify
from nlpkit.checkpoint.keeper import Keeper
from tests.checkpoint.remotes import Remote
from tests.checkpoint.small import about, files, holds, names, save, until


@pytest.fixture(autouse=True)
def _line() -> Iterator[None]:
    Remote.reset()
    yield
    Remote.reset()


class Run:
    """A run whose checkpoints are copied over a line that tests have in their hands."""

    def __init__(self, tmp_path: Path, *, keep: int = 2, patience: float = 5.0) -> None:
        self.here, self.there = tmp_path / "checkpoints", tmp_path / "mount" / "cards"
        self.said: list[str] = []
        self.keeper = Keeper(
            self.here,
            keep=keep,
            backup=Backup(f"badline://{tmp_path}/mount", "cards"),
            say=self.said.append,
            patience=patience,
        )

    def save(self, *steps: int, best: int | None = None, version: str = "") -> None:
        for step in steps:
            self.keeper.save(step, files(step, version), about(best), best=step == best)
        self.keeper.wait()

    @property
    def backup(self) -> dict[str, Any]:
        report: dict[str, Any] = self.keeper.report()["backup"]
        return report

    def steps(self, folder: Path) -> list[int]:
        return [int(name[5:]) for name in names(folder) if name.startswith("step-")]

    def idle(self) -> None:
        until(lambda: not self.backup["waiting"])


def test_every_checkpoint_is_copied_and_the_copies_are_pruned_alike(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (10, 20, 30, 40):
        run.save(step, best=10)
        run.idle()
    run.keeper.close()
    assert run.steps(run.there) == run.steps(run.here) == [10, 30, 40]
    assert all(holds(verify(run.there / f"step-000000{s}").path, s) for s in (10, 30, 40))
    assert run.backup == {"copied": 4, "failed": 0, "dropped": [], "waiting": []}
    assert run.said == []


def test_old_copies_are_removed_only_after_the_new_one_is_there(tmp_path: Path) -> None:
    run = Run(tmp_path, keep=1)
    for step in (1, 2):
        run.save(step)
        run.idle()
    run.keeper.close()
    assert Remote.log.index("rm step-00000001") > Remote.log.index("step-00000002/manifest.json")
    assert run.steps(run.there) == [2]


def test_a_slow_line_holds_up_no_save(tmp_path: Path) -> None:
    Remote.open_gate.clear()
    run = Run(tmp_path)
    run.save(1, 2, 3)
    assert run.keeper.report()["saved"] == 3
    assert run.backup["copied"] == 0
    Remote.open_gate.set()
    run.keeper.close()
    assert run.backup["waiting"] == []
    assert run.steps(run.there) == run.steps(run.here) == [2, 3]


def test_nothing_that_waits_is_pruned_and_the_newest_is_copied_first(tmp_path: Path) -> None:
    Remote.open_gate.clear()
    run = Run(tmp_path, keep=1)
    run.save(1)
    until(lambda: run.there.exists())
    run.save(2, 3)
    assert run.steps(run.here) == [1, 2, 3]
    Remote.open_gate.set()
    run.keeper.close()
    assert [each for each in Remote.log if "manifest" in each] == [
        "step-00000001/manifest.json",
        "step-00000003/manifest.json",
    ], "2 is needless once 3 is there"
    assert run.steps(run.here) == run.steps(run.there) == [3]
    assert run.backup == {"copied": 2, "failed": 0, "dropped": [], "waiting": []}


def test_a_failed_copy_is_tried_again_and_told_of_once(tmp_path: Path) -> None:
    Remote.failures = 3
    run = Run(tmp_path, patience=1.0)
    run.save(5)
    run.idle()
    run.keeper.close()
    assert run.backup == {"copied": 1, "failed": 3, "dropped": [], "waiting": []}
    assert run.said == [
        f"warning: backup badline://{run.there}: step-00000005 could not be copied, "
        "is tried again (the line is busy)"
    ]


def test_pauses_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Remote.failures, times = 5, list[float]()
    copy = Backup.copy

    def timed(backup: Backup, path: Path) -> None:
        times.append(time.monotonic())
        copy(backup, path)

    monkeypatch.setattr(Backup, "copy", timed)
    run = Run(tmp_path, patience=1.0)
    run.save(5)
    run.idle()
    run.keeper.close()
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(pauses) == 5
    assert all(pause >= 2**index / 64 for index, pause in enumerate(pauses))


def test_a_copy_that_is_damaged_on_the_way_is_made_again(tmp_path: Path) -> None:
    Remote.damages = "model.safetensors"
    run = Run(tmp_path, patience=1.0)
    run.save(5)
    run.keeper.close()
    assert run.backup["copied"] == run.backup["failed"] == 1
    assert verify(run.there / "step-00000005")
    assert "step-00000005/model.safetensors: is damaged (its sha256" in run.said[0]


def test_of_those_that_wait_for_a_dead_line_the_oldest_is_dropped_but_not_the_best(
    tmp_path: Path,
) -> None:
    Remote.down = True
    run = Run(tmp_path, keep=2, patience=1.0)
    run.save(10, best=10)
    run.save(20, 30, 40, best=10)
    assert run.backup["dropped"] == []
    run.save(50, 60, best=10)
    assert run.backup["dropped"] == ["step-00000020", "step-00000030"]
    assert run.steps(run.here) == [10, 40, 50, 60]
    assert [each for each in run.said if "never copied" in each] == [
        f"warning: backup badline://{run.there}: step-00000020 is never copied: too many wait",
        f"warning: backup badline://{run.there}: step-00000030 is never copied: too many wait",
    ]
    Remote.down = False
    run.keeper.close()
    assert run.steps(run.there) == [10, 50, 60]
    assert run.steps(run.here) == [10, 50, 60]


def test_closing_gives_a_dead_line_a_bounded_time_and_says_what_was_not_copied(
    tmp_path: Path,
) -> None:
    Remote.down = True
    run = Run(tmp_path, patience=0.3)
    run.save(1, 2)
    started = time.monotonic()
    run.keeper.close()
    assert 0.2 < time.monotonic() - started < 2
    assert run.backup["waiting"] == ["step-00000001", "step-00000002"]
    assert run.backup["failed"] >= 2
    assert run.said[-1] == (
        f"warning: backup badline://{run.there}: not copied in time: step-00000001, "
        f"step-00000002; they are in {run.here}"
    )
    assert run.steps(run.here) == [1, 2]


def test_closing_does_not_wait_for_a_line_that_hangs(tmp_path: Path) -> None:
    Remote.open_gate.clear()
    run = Run(tmp_path, patience=0.2)
    run.save(1)
    started = time.monotonic()
    run.keeper.close()
    assert time.monotonic() - started < 2
    assert run.backup["waiting"] == ["step-00000001"]
    Remote.open_gate.set()
    run.keeper._copier._thread.join(10)  # type: ignore[union-attr]


def test_a_failed_write_does_not_keep_closing_from_copying(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1)
    run.keeper.save(2, {"state.json": lambda path: path.read_bytes()}, about(), best=False)
    with pytest.raises(Exception, match="could not be saved"):
        run.keeper.close()
    assert run.steps(run.there) == [1]


def test_what_an_earlier_process_could_not_copy_is_copied_by_the_next(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path / "checkpoints", step, best=10)
    run = Run(tmp_path, keep=2)
    run.save(40, best=10)
    run.keeper.close()
    assert run.steps(run.there) == run.steps(run.here) == [10, 30, 40]


@pytest.mark.parametrize(
    ("gate", "last_before"), [("put_file", "."), ("size", "step-00000005/manifest.json")]
)
def test_the_same_step_saved_again_while_it_is_copied_or_read_back_is_copied_again(
    tmp_path: Path, gate: str, last_before: str
) -> None:
    Remote.open_gate.clear()
    Remote.gate_at = gate
    run = Run(tmp_path, patience=1.0)
    run.save(5)
    until(lambda: (run.there / last_before).exists())
    run.save(5, version="second")
    Remote.open_gate.set()
    run.keeper.close()
    assert holds(verify(run.there / "step-00000005").path, 5, "second")


def test_copies_that_cannot_be_removed_are_told_of_and_count_as_copies(tmp_path: Path) -> None:
    Remote.read_only = True
    run = Run(tmp_path, keep=1)
    for step in (1, 2):
        run.save(step)
        run.idle()
    run.keeper.close()
    assert run.backup["copied"] == 2
    assert run.steps(run.there) == [1, 2]
    assert run.said == [
        f"warning: backup badline://{run.there}: old checkpoints could not be removed "
        "(Access Denied)"
    ]


def test_messages_about_the_backup_hide_its_secrets(tmp_path: Path) -> None:
    said: list[str] = []
    backup = Backup("ftp://me:hunter2@127.0.0.1:9/there", "cards")
    kept = Keeper(tmp_path, keep=1, backup=backup, say=said.append, patience=0.2)
    kept.save(1, files(1), about(), best=False)
    kept.close()
    assert len(said) == 2
    assert "hunter2" not in " ".join(said)


def test_closing_ends_the_threads(tmp_path: Path) -> None:
    before = {*threading.enumerate()}
    run = Run(tmp_path)
    run.save(1)
    assert len({*threading.enumerate()} - before) == 2
    run.keeper.close()
    assert {*threading.enumerate()} <= before
