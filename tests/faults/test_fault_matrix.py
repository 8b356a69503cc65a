"""Whatever happens to checkpoints, a run resumes from a whole one, says what is damaged, and saves.

`outcomes(folder)` gives all cases, for a table; the tests below run them in parts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nlpkit.checkpoint import files as checkpoint_files
from nlpkit.checkpoint.files import MANIFEST, parsed
from nlpkit.errors import CheckpointError
from tests.checkpoint.small import save
from tests.faults import damaging, filling
from tests.faults.outcome import Outcome, counts

REPOSITORY = Path(__file__).parents[2]
NONE_BAD = {"unusable": 0, "silent": 0, "alarms": 0}


@pytest.fixture
def fast() -> Iterator[Path]:
    """A folder in memory where there is one: nothing here needs a disk, and syncing one is slow."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def killed(root: Path, *arguments: str) -> list[Outcome]:
    """The outcomes of killing, in a process without threads."""
    command = [sys.executable, "-m", "tests.faults.killing", str(root), str(root / "report.json")]
    done = subprocess.run(
        [*command, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return [Outcome(**each) for each in json.loads((root / "report.json").read_text())]


def outcomes(root: Path) -> list[Outcome]:
    """Every case; `counts` counts them."""
    for part in ("damaged", "copies", "killed", "limited"):
        (root / part).mkdir(parents=True)
    found = damaging.here(root / "damaged") + damaging.there(root / "copies")
    found += killed(root / "killed") + filling.limited_files(root / "limited")
    with filling.small_disk(root / "disk") as mounted:
        return found + (filling.full_disk(root / "disk") if mounted else [])


def check(found: list[Outcome], at_least: int) -> None:
    bad = [each for each in found if not each.good]
    assert not bad, "\n".join(map(str, bad[:5]))
    assert counts(found) == {"cases": len(found), **NONE_BAD}
    assert len(found) >= at_least


def test_any_damage_to_any_file_is_named_and_the_newest_whole_checkpoint_is_used(
    fast: Path,
) -> None:
    check(damaging.here(fast), at_least=250)


def test_any_damage_to_any_copy_is_named_and_the_newest_whole_copy_is_fetched(fast: Path) -> None:
    check(damaging.there(fast), at_least=150)


def test_a_kill_before_any_operation_leaves_the_older_or_the_newer_and_never_less(
    fast: Path,
) -> None:
    check(killed(fast), at_least=250)


@pytest.mark.slow
def test_a_second_kill_while_it_goes_on_does_not_change_that(fast: Path) -> None:
    check(killed(fast, "400"), at_least=650)


def test_a_full_disk_is_an_error_with_a_remedy_and_costs_nothing_that_was_saved(
    fast: Path,
) -> None:
    with filling.small_disk(fast / "disk") as mounted:
        if not mounted:
            pytest.skip("a file system cannot be mounted here; files of limited size stand for it")
        found = filling.full_disk(fast / "disk")
    check(found, at_least=13)
    assert len({each.case for each in found}) == len(found)


def test_a_file_that_may_not_grow_is_an_error_with_a_remedy(fast: Path) -> None:
    check(filling.limited_files(fast), at_least=12)


def test_no_bit_of_a_manifest_can_flip_unseen(fast: Path) -> None:
    path = save(fast, 5, best=3) / MANIFEST
    whole = path.read_bytes()
    manifest, unseen = parsed(whole, ""), 0
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            try:
                unseen += parsed(bytes(damaged), "") != manifest
            except CheckpointError:
                continue
    assert not unseen


def test_the_judge_sees_a_verification_that_looks_at_sizes_only(
    fast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_of = checkpoint_files.fault_of
    monkeypatch.setattr(
        checkpoint_files, "fault_of", lambda path, how: fault_of(path, how, content=False)
    )
    found = damaging.here(fast, ["state.json"])
    assert all(each.silent for each in found if "flipped" in each.case and "state" in each.case)
    assert all(each.good for each in found if "truncated" in each.case)
