from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nlpkit.checkpoint.files import (
    FORMAT,
    MANIFEST,
    NewerFormatError,
    listed,
    newest,
    remove,
    settle,
    verify,
    write,
)
from nlpkit.errors import CheckpointError
from nlpkit.files import seal_of
from tests.checkpoint.remotes import flip
from tests.checkpoint.small import ALL_FILES, SIZES, about, content, files, holds, names, save


def reseal(path: Path, **values: object) -> None:
    """Edits a manifest as somebody would who knows of the seal."""
    manifest = {**json.loads((path / MANIFEST).read_text("utf-8")), **values}
    (path / MANIFEST).write_text(json.dumps({**manifest, "seal": seal_of(manifest)}))


def test_what_is_written_is_found_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "run" / "checkpoints", 314, files(314), about(best=7))
    assert path == tmp_path / "run" / "checkpoints" / "step-00000314"
    found = verify(path)
    assert (found.path, found.step, found.best_step) == (path, 314, 7)
    assert found.manifest["config"] == {"name": "größe", "lr": 5e-5}
    assert holds(path, 314)
    assert names(path) == sorted(ALL_FILES)
    assert names(path.parent) == ["step-00000314"]


def test_manifest_has_format_step_seal_and_size_and_hash_of_each_file(tmp_path: Path) -> None:
    manifest = json.loads((save(tmp_path, 5) / MANIFEST).read_text("utf-8"))
    assert (manifest["format"], manifest["step"]) == (FORMAT, 5)
    assert {name: each["size"] for name, each in manifest["files"].items()} == SIZES
    assert all(len(each["sha256"]) == 64 for each in manifest["files"].values())
    assert manifest["seal"] == seal_of(manifest)


def test_same_checkpoint_twice_has_the_same_bytes(tmp_path: Path) -> None:
    one, other = save(tmp_path / "one", 5, best=5), save(tmp_path / "other", 5, best=5)
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in ALL_FILES)


def test_files_are_synced_before_the_folder_and_the_folder_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, done = tmp_path / "checkpoints", []
    sync, rename = os.fsync, Path.rename

    def fsync(file: int) -> None:
        sync(file)
        done.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"rename {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    save(folder, 5)
    assert done[0] == tmp_path.name, "the new folder of checkpoints"
    assert sorted(done[1:6]) == sorted(ALL_FILES)
    assert done[6].startswith(".step-00000005.")
    assert done[7:] == ["rename step-00000005", "checkpoints"]


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    save(tmp_path, 5)

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 6, {**files(6), "state.json": full}, about())
    assert names(tmp_path) == ["step-00000005"]
    assert holds(verify(tmp_path / "step-00000005").path, 5)


def test_the_same_step_once_more_takes_the_place_of_the_first(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 5, version="second")
    assert names(tmp_path) == ["step-00000005"]
    assert holds(verify(tmp_path / "step-00000005").path, 5, "second")


def test_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    flip(save(tmp_path, 5) / "state.json")
    save(tmp_path, 5)
    assert names(tmp_path) == ["step-00000005"]
    assert verify(tmp_path / "step-00000005")


def test_a_replaced_one_that_a_killed_process_left_is_found_and_gets_its_name_again(
    tmp_path: Path,
) -> None:
    save(tmp_path, 4)
    save(tmp_path, 5).rename(tmp_path / "step-00000005.old")
    found = newest(tmp_path, pytest.fail)
    assert found
    assert holds(found.path, 5)
    settle(tmp_path)
    found = newest(tmp_path, pytest.fail)
    assert found
    assert found.path == tmp_path / "step-00000005"
    assert holds(found.path, 5)


def test_the_only_whole_one_of_a_step_stays_until_the_next_is_committed(tmp_path: Path) -> None:
    save(tmp_path, 5, version="first").rename(tmp_path / "step-00000005.old")
    shutil.copytree(tmp_path / "step-00000005.old", tmp_path / "step-00000005")
    flip(tmp_path / "step-00000005" / "state.json")
    named: list[str] = []
    found = newest(tmp_path, named.append)
    assert found
    assert found.path.name == "step-00000005.old"
    assert len(named) == 1

    def fails(path: Path) -> None:
        assert holds(verify(tmp_path / "step-00000005.old").path, 5, "first")
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path, 5, {"state.json": fails}, about())
    assert holds(verify(tmp_path / "step-00000005.old").path, 5, "first")
    save(tmp_path, 5, version="second")
    assert names(tmp_path) == ["step-00000005"]
    assert holds(verify(tmp_path / "step-00000005").path, 5, "second")


def test_temporary_folders_of_killed_processes_are_removed_by_the_next(tmp_path: Path) -> None:
    for left in (".step-00000004.17", ".step-00000003.gone"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".lock").touch()
    assert newest(tmp_path, pytest.fail) is None
    save(tmp_path, 5)
    assert names(tmp_path) == [".lock", "step-00000005"]


def test_files_that_are_no_part_of_it_are_no_damage(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    (path / "notes.txt").write_text("mine")
    (tmp_path / "step-5").mkdir()
    (tmp_path / "notes").mkdir()
    found = newest(tmp_path, pytest.fail)
    assert found
    assert found.step == 5


def test_the_newest_is_the_one_with_the_most_steps(tmp_path: Path) -> None:
    for step in (9, 100_000_000, 10, 99_999_999):
        save(tmp_path, step)
    assert [step for step, _ in listed(tmp_path)] == [100_000_000, 99_999_999, 10, 9]
    found = newest(tmp_path, pytest.fail)
    assert found
    assert found.step == 100_000_000


def test_no_folder_and_an_empty_one_have_none(tmp_path: Path) -> None:
    assert newest(tmp_path / "none", pytest.fail) is None
    assert newest(tmp_path, pytest.fail) is None


def test_each_damaged_one_is_named_once_the_newest_first(tmp_path: Path) -> None:
    paths = [save(tmp_path, step) for step in (1, 2, 3)]
    flip(paths[2] / "optimizer.safetensors")
    (paths[1] / "state.json").unlink()
    named: list[str] = []
    found = newest(tmp_path, named.append)
    assert found
    assert found.step == 1
    assert named == [
        f"{paths[2]}/optimizer.safetensors: is damaged (its sha256 is not the recorded one)",
        f"{paths[1]}/state.json: is missing",
    ]


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize("bytes_left", [0, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, bytes_left: int) -> None:
    path = save(tmp_path, 5) / name
    path.write_bytes(path.read_bytes()[:bytes_left])
    with pytest.raises(CheckpointError, match=f"^{path}: is damaged"):
        verify(path.parent)


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 5) / name
    path.unlink()
    with pytest.raises(CheckpointError, match=f"^{path}: is missing$"):
        verify(path.parent)


def test_what_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = save(tmp_path, 5), Path.open

    def broken(self: Path, *args: object, **kwargs: object) -> object:
        if self.name == "state.json":  # root may read everything, so no chmod
            raise OSError(errno.EIO, "Input/output error", str(self))
        return opened(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(CheckpointError, match=r"state\.json: cannot be read \(Input/output error"):
        verify(path)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "5", '"x"', "{}", '{"seal": 5}', "\x00" * 400, "{" * 5]
)
def test_what_is_no_manifest_is_damage(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, 5)
    (path / MANIFEST).write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json: is damaged"):
        verify(path)


def test_an_edited_manifest_is_damage(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    text = (path / MANIFEST).read_text("utf-8")
    (path / MANIFEST).write_text(text.replace('"step": 5', '"step": 6'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="its seal is broken"):
        verify(path)


def test_a_newer_format_is_an_error_and_no_reason_to_take_an_older_one(tmp_path: Path) -> None:
    save(tmp_path, 4)
    path = save(tmp_path, 5)
    reseal(path, format=FORMAT + 1)
    remedy = r"written by a newer nlpkit \(format 2.*install a newer nlpkit"
    with pytest.raises(NewerFormatError, match=remedy):
        verify(path)
    with pytest.raises(NewerFormatError, match=remedy):
        newest(tmp_path, pytest.fail)


def test_a_flipped_bit_in_the_format_is_damage_and_no_newer_format(tmp_path: Path) -> None:
    save(tmp_path, 4)
    path = save(tmp_path, 5)
    text = (path / MANIFEST).read_text("utf-8")
    (path / MANIFEST).write_text(text.replace('"format": 1', '"format": 3'), encoding="utf-8")
    named: list[str] = []
    found = newest(tmp_path, named.append)
    assert found
    assert found.step == 4
    assert "manifest.json: is damaged" in named[0]


@pytest.mark.parametrize("value", [0, None, "1"])
def test_no_known_format_is_refused(tmp_path: Path, value: object) -> None:
    reseal(save(tmp_path, 5), format=value)
    with pytest.raises(CheckpointError, match="is not as nlpkit writes it"):
        verify(tmp_path / "step-00000005")


@pytest.mark.parametrize("name", ["../state.json", "/etc/passwd", "a/b", "..", "", ".x"])
def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 5)
    reseal(path, files={name: {"size": 0, "sha256": ""}})
    with pytest.raises(CheckpointError, match="is not as nlpkit writes it"):
        verify(path)


def test_removing_never_shows_half_of_one(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    remove(path)
    assert names(tmp_path) == []


def test_finding_and_verifying_imports_nothing_heavy(tmp_path: Path) -> None:
    save(tmp_path, 5)
    code = (
        "import sys; from pathlib import Path; from nlpkit.checkpoint.files import newest; "
        f"newest(Path({str(tmp_path)!r}), print); import nlpkit.checkpoint.keeper; "
        "print(*({*sys.modules} & {'torch', 'numpy', 'pydantic', 'fsspec'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_content_of_the_small_checkpoints_differs_by_step_name_and_version() -> None:
    kinds = {content(s, "state.json", v) for s in (1, 2) for v in ("", "second")}
    assert len(kinds) == 4
