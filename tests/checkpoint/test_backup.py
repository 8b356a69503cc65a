from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import fsspec
import pytest

from nlpkit.checkpoint.backup import Backup
from nlpkit.checkpoint.files import FORMAT, MANIFEST, NewerFormatError, verify
from nlpkit.errors import CheckpointError, InputError
from nlpkit.files import seal_of
from tests.checkpoint.remotes import Remote, flip
from tests.checkpoint.small import ALL_FILES, SIZES, holds, names, save


@pytest.fixture(autouse=True)
def _line() -> Iterator[None]:
    Remote.reset()
    yield
    Remote.reset()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The folder of copies, as a mount would show it."""
    return tmp_path / "mount" / "backups" / "cards"


@pytest.fixture
def backup(there: Path) -> Backup:
    return Backup(str(there.parent), "cards")


def test_a_copy_is_the_same_files(backup: Backup, here: Path, there: Path) -> None:
    backup.copy(save(here, 5))
    assert names(there) == ["step-00000005"]
    assert names(there / "step-00000005") == sorted(ALL_FILES)
    assert holds(verify(there / "step-00000005").path, 5)


def test_the_manifest_is_copied_last(here: Path, there: Path) -> None:
    Backup(f"badline://{there.parent}", "cards").copy(save(here, 5))
    assert [name.rpartition("/")[2] for name in Remote.log] == [*sorted(SIZES), MANIFEST]


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_copy_that_was_damaged_on_the_way_is_found_and_mended(
    here: Path, there: Path, name: str
) -> None:
    backup, path = Backup(f"badline://{there.parent}", "cards"), save(here, 5)
    Remote.damages = name
    with pytest.raises(CheckpointError, match=rf"badline://.*/cards/step-00000005/{name}: is "):
        backup.copy(path)
    backup.copy(path)
    assert verify(there / "step-00000005")


def test_a_whole_copy_is_not_made_again(here: Path, there: Path) -> None:
    backup, path = Backup(f"badline://{there.parent}", "cards"), save(here, 5)
    backup.copy(path)
    Remote.log.clear()
    backup.copy(path)
    assert Remote.log == []


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_copy_that_a_killed_process_left_is_finished(
    backup: Backup, here: Path, there: Path, name: str
) -> None:
    backup.copy(save(here, 5))
    (there / "step-00000005" / name).unlink()
    backup.copy(here / "step-00000005")
    assert verify(there / "step-00000005")


def test_pruning_leaves_the_wanted_the_newer_and_what_is_no_checkpoint(
    backup: Backup, here: Path, there: Path
) -> None:
    for step in (1, 2, 3, 4, 5):
        backup.copy(save(here, step))
    (there / "notes.txt").write_text("mine")
    backup.prune(4, {2, 4})
    assert names(there) == ["notes.txt", "step-00000002", "step-00000004", "step-00000005"]


def test_the_newest_is_fetched_as_a_whole(backup: Backup, here: Path, tmp_path: Path) -> None:
    for step in (9, 10):
        backup.copy(save(here, step))
    found = backup.newest(tmp_path / "new", 0, pytest.fail)
    assert found
    assert (found.step, found.path) == (10, tmp_path / "new" / "step-00000010")
    assert holds(verify(found.path).path, 10)
    assert names(tmp_path / "new") == ["step-00000010"]


def test_what_is_not_newer_is_not_fetched(backup: Backup, here: Path, tmp_path: Path) -> None:
    backup.copy(save(here, 5))
    assert backup.newest(tmp_path / "new", 5, pytest.fail) is None
    assert not (tmp_path / "new").exists()


def test_the_best_comes_along_with_the_newest(backup: Backup, here: Path, tmp_path: Path) -> None:
    for step, best in ((3, 3), (4, 3), (5, 3)):
        backup.copy(save(here, step, best=best))
    found = backup.newest(tmp_path / "new", 0, pytest.fail)
    assert found
    assert (found.step, found.best_step) == (5, 3)
    assert names(tmp_path / "new") == ["step-00000003", "step-00000005"]
    assert holds(verify(tmp_path / "new" / "step-00000003").path, 3)


def test_a_best_that_is_here_is_not_fetched_and_a_damaged_one_is(
    here: Path, there: Path, tmp_path: Path
) -> None:
    backup, new = Backup(str(there.parent), "cards"), tmp_path / "new"
    for step in (3, 5):
        backup.copy(save(here, step, best=3))
    save(new, 3, best=3, version="of here")
    assert backup.newest(new, 0, pytest.fail)
    assert holds(new / "step-00000003", 3, "of here")
    flip(new / "step-00000003" / "state.json")
    assert backup.fetch(new, 3, pytest.fail)
    assert holds(verify(new / "step-00000003").path, 3)


def test_a_best_that_is_gone_there_is_named_and_the_newest_used(
    backup: Backup, here: Path, tmp_path: Path
) -> None:
    backup.copy(save(here, 5, best=3))
    named: list[str] = []
    found = backup.newest(tmp_path / "new", 0, named.append)
    assert found
    assert found.step == 5
    assert named == [f"{backup}/step-00000003/manifest.json: is missing"]


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_damaged_copy_is_named_and_the_next_older_fetched(
    backup: Backup, here: Path, there: Path, tmp_path: Path, name: str
) -> None:
    for step in (4, 5):
        backup.copy(save(here, step))
    flip(there / "step-00000005" / name)
    named: list[str] = []
    found = backup.newest(tmp_path / "new", 0, named.append)
    assert found
    assert found.step == 4
    assert len(named) == 1
    assert named[0].startswith(f"{there}/step-00000005/{name}: is damaged")
    assert names(tmp_path / "new") == ["step-00000004"]


def test_a_newer_format_there_is_an_error(backup: Backup, here: Path, tmp_path: Path) -> None:
    backup.copy(save(here, 4))
    path = save(here, 5)
    manifest = {**json.loads((path / MANIFEST).read_text("utf-8")), "format": FORMAT + 1}
    (path / MANIFEST).write_text(json.dumps({**manifest, "seal": seal_of(manifest)}))
    fsspec.filesystem("file").put(str(path), f"{backup}/step-00000005", recursive=True)
    with pytest.raises(NewerFormatError, match="newer nlpkit"):
        backup.newest(tmp_path / "new", 0, pytest.fail)


def test_where_nothing_was_copied_there_is_nothing(backup: Backup, tmp_path: Path) -> None:
    assert backup.newest(tmp_path / "new", 0, pytest.fail) is None
    assert not backup.exists()


def test_copies_of_an_earlier_run_are_known_of(backup: Backup, here: Path) -> None:
    backup.copy(save(here, 5))
    assert backup.exists()
    assert not Backup(str(here.parent / "mount" / "backups"), "other").exists()


def test_a_remote_that_cannot_be_reached_is_named_and_no_error(there: Path, here: Path) -> None:
    Remote.down = True
    backup, named = Backup(f"badline://{there.parent}", "cards"), list[str]()
    assert backup.newest(here, 0, named.append) is None
    assert named == [f"badline://{there}: cannot be reached (the line is dead)"]
    assert not backup.exists()


def test_a_line_that_breaks_while_fetching_is_named_and_leaves_nothing(
    there: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup, named = Backup(f"badline://{there.parent}", "cards"), list[str]()
    backup.copy(save(here, 5))

    def breaks(*_: object, **__: object) -> None:
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(Remote, "get_file", breaks)
    assert backup.newest(tmp_path / "new", 0, named.append) is None
    assert named == [
        f"badline://{there}/step-00000005/metrics.jsonl: cannot be fetched (the line is dead)"
    ]
    assert names(tmp_path / "new") == []


def test_a_relative_folder_counts_from_where_the_run_began(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backup = Backup("copies", "cards")
    monkeypatch.chdir("/")
    backup.copy(save(here, 5))
    assert verify(tmp_path / "copies" / "cards" / "step-00000005")


def test_a_missing_package_is_found_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(InputError, match=r"pip install 'nlpkit-sdk\[s3\]'"):
        Backup("s3://models/here", "cards")


def test_an_unknown_scheme_is_found_before_anything_is_trained() -> None:
    with pytest.raises(InputError, match=r"checkpoint.backup: gopher://x/cards: cannot be used"):
        Backup("gopher://x", "cards")


SECRETS = [
    "ftp://me:hunter2@127.0.0.1:9/there",
    "ftp://me:hunter%402@127.0.0.1:9/there",
    "ftp://me:hunter2/hunter@2@127.0.0.1:9/there",
    "badline:///there?token=hunter2",
]


@pytest.mark.parametrize("url", SECRETS)
def test_secrets_of_the_url_are_in_no_message(url: str, tmp_path: Path) -> None:
    backup, named = Backup(url, "cards"), list[str]()
    Remote.down = True
    backup.newest(tmp_path, 0, named.append)
    assert len(named) == 1
    assert "hunter" not in f"{backup} {named}"
    assert "hunter" not in backup.reason_of(OSError(f"530 Login failed: {url}"))
    assert "hunter" not in backup.reason_of(ValueError(f"530 Login failed: {unquote(url)}"))
    assert str(backup).endswith("there/cards")


def test_credentials_in_an_s3_url_are_refused_and_not_shown() -> None:
    with pytest.raises(InputError, match="set AWS_ACCESS_KEY_ID") as caught:
        Backup("s3://AKIA5:ab/cd+ef@models/here", "cards")
    assert "ab/cd" not in str(caught.value)
    assert "s3://AKIA5:…@models/here/cards" in str(caught.value)
