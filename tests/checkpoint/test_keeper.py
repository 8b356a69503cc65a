from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from nlpkit.checkpoint.files import newest, verify
from nlpkit.checkpoint.keeper import Keeper
from nlpkit.errors import RunError
from tests.checkpoint.remotes import flip
from tests.checkpoint.small import about, files, holds, names, save, until


def keeper(folder: Path, keep: int = 2) -> Keeper:
    return Keeper(folder, keep=keep, backup=None, say=pytest.fail)


def keep_all(kept: Keeper, *steps: int, best: int | None = None) -> None:
    for step in steps:
        kept.save(step, files(step), about(best), best=step == best)
    kept.wait()


class Disk:
    """Writes a file once it is let, or fails."""

    def __init__(self) -> None:
        self.started, self.let = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self, path: Path) -> None:
        self.started.set()
        self.let.wait(10)
        if self.error:
            raise self.error
        path.write_bytes(b"x")


def test_saving_hands_over_and_returns_while_another_thread_writes(tmp_path: Path) -> None:
    disk, kept = Disk(), keeper(tmp_path)
    kept.save(1, {"model.safetensors": disk}, about(), best=False)
    assert disk.started.wait(10)
    assert kept.finished() == []
    assert newest(tmp_path, pytest.fail) is None
    disk.let.set()
    kept.wait()
    assert [saved.step for saved in kept.finished()] == [1]
    kept.close()


def test_a_second_save_waits_for_the_first_and_that_time_is_counted(tmp_path: Path) -> None:
    disk, kept = Disk(), keeper(tmp_path)
    kept.save(1, {"model.safetensors": disk}, about(), best=False)
    assert kept.report()["seconds_blocked"] == 0
    threading.Timer(0.2, disk.let.set).start()
    kept.save(2, files(2), about(), best=False)
    assert [saved.step for saved in kept.finished()][:1] == [1]
    assert kept.report()["seconds_blocked"] >= 0.1
    kept.close()
    assert kept.report()["saved"] == 2


def test_what_was_saved_is_told_once_with_its_path_and_time(tmp_path: Path) -> None:
    kept = keeper(tmp_path)
    keep_all(kept, 1, 2, best=2)
    first, second = kept.finished()
    assert (first.step, first.best) == (1, False)
    assert (second.step, second.best) == (2, True)
    assert second.path == tmp_path / "step-00000002"
    assert kept.finished() == []
    kept.close()


def test_what_was_handed_over_is_not_changed_by_what_the_caller_does_next(tmp_path: Path) -> None:
    disk, kept = Disk(), keeper(tmp_path)
    given, told = {"model.safetensors": disk}, dict(about(best=1))
    kept.save(1, given, told, best=True)
    given.clear()
    told["best_step"] = 7
    disk.let.set()
    kept.close()
    assert verify(tmp_path / "step-00000001").best_step == 1


@pytest.mark.parametrize("told_by", ["save", "wait", "finished", "close"])
def test_a_failed_write_is_told_once_on_one_line_with_place_reason_and_remedy(
    tmp_path: Path, told_by: str
) -> None:
    disk, kept = Disk(), keeper(tmp_path)
    disk.error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "model"))
    disk.let.set()
    keep_all(kept, 1)
    kept.save(2, {"model.safetensors": disk}, about(), best=False)
    until(lambda: kept._writing.done())  # type: ignore[union-attr]
    calls = {"save": lambda: kept.save(3, files(3), about(), best=False)}
    with pytest.raises(RunError) as caught:
        calls.get(told_by, getattr(kept, told_by))()
    assert str(caught.value) == (
        f"{tmp_path}/step-00000002: the checkpoint could not be saved (No space left on device); "
        "make room or mend it, then go on with resume=True"
    )
    kept.close()
    assert [saved.step for saved in kept.finished()] == [1]
    assert verify(tmp_path / "step-00000001")


def test_after_a_failed_write_the_next_may_succeed(tmp_path: Path) -> None:
    disk, kept = Disk(), keeper(tmp_path)
    disk.error = ValueError("state is no JSON")
    disk.let.set()
    kept.save(1, {"model.safetensors": disk}, about(), best=False)
    with pytest.raises(RunError, match=r"\(ValueError: state is no JSON\)"):
        kept.wait()
    keep_all(kept, 2)
    kept.close()
    assert names(tmp_path) == ["last", "step-00000002"]


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    kept = keeper(tmp_path)
    keep_all(kept, 10, best=None)
    keep_all(kept, 20, 30, 40, 50, best=20)
    assert names(tmp_path) == ["best", "last", "step-00000020", "step-00000040", "step-00000050"]
    assert (tmp_path / "best").read_text() == "step-00000020\n"
    assert (tmp_path / "last").read_text() == "step-00000050\n"
    keep_all(kept, 60, best=60)
    assert names(tmp_path) == ["best", "last", "step-00000050", "step-00000060"]
    assert (tmp_path / "best").read_text() == "step-00000060\n"
    kept.close()


def test_one_is_kept_where_one_is_asked_for(tmp_path: Path) -> None:
    kept = keeper(tmp_path, keep=1)
    keep_all(kept, 1, 2, 3)
    kept.close()
    assert names(tmp_path) == ["last", "step-00000003"]


def test_what_an_earlier_process_left_counts_where_it_is_whole(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step, best=10)
    kept = keeper(tmp_path)
    keep_all(kept, 50, best=10)
    kept.close()
    assert names(tmp_path) == ["best", "last", "step-00000010", "step-00000040", "step-00000050"]


def test_a_damaged_one_never_counts_and_is_never_removed(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
    for step in (30, 40):
        flip(tmp_path / f"step-000000{step}" / "state.json")
    kept = keeper(tmp_path)
    keep_all(kept, 25)
    stay = ["step-00000020", "step-00000025", "step-00000030", "step-00000040"]
    assert names(tmp_path) == ["last", *stay]
    keep_all(kept, 30)
    kept.close()
    assert names(tmp_path) == ["last", *stay[1:]]
    found = newest(tmp_path, lambda message: None)
    assert found
    assert found.step == 30


def test_a_best_one_that_is_damaged_is_not_pointed_at(tmp_path: Path) -> None:
    flip(save(tmp_path, 10, best=10) / "state.json")
    (tmp_path / "best").write_text("step-00000010\n")
    kept = keeper(tmp_path)
    keep_all(kept, 20, best=10)
    kept.close()
    assert names(tmp_path) == ["last", "step-00000010", "step-00000020"]


def test_the_same_step_once_more_replaces_what_was_saved(tmp_path: Path) -> None:
    kept = keeper(tmp_path)
    keep_all(kept, 10, 20)
    kept.save(20, files(20, "second"), about(best=20), best=True)
    kept.close()
    assert names(tmp_path) == ["best", "last", "step-00000010", "step-00000020"]
    assert holds(verify(tmp_path / "step-00000020").path, 20, "second")


def test_without_a_backup_the_report_says_none(tmp_path: Path) -> None:
    kept = keeper(tmp_path)
    kept.close()
    assert kept.report() == {"saved": 0, "seconds_blocked": 0.0, "backup": None}


def test_closing_ends_its_threads(tmp_path: Path) -> None:
    before = {*threading.enumerate()}
    kept = keeper(tmp_path)
    keep_all(kept, 1)
    assert len({*threading.enumerate()} - before) == 1
    kept.close()
    assert {*threading.enumerate()} <= before
