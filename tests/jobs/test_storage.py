"""What nodes share: folders arrive whole or not at all, whatever the storage is."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from nlpkit.errors import RunError
from nlpkit_ray.storage import Storage, is_shared


@pytest.fixture(params=["folder", "objects"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A folder that is mounted, and objects that are not."""
    if request.param == "objects":
        return Storage(f"memory://{tmp_path.name}")
    (tmp_path / "shared").mkdir()
    return Storage(str(tmp_path / "shared"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something to copy."""
    (tmp_path / "given" / "deep").mkdir(parents=True)
    (tmp_path / "given" / "a.txt").write_text("a")
    (tmp_path / "given" / "deep" / "b.bin").write_bytes(bytes(range(256)))
    return tmp_path / "given"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def push(storage: Storage, folder: Path, name: str) -> None:
    storage.push(folder, name, [path for path in folder.rglob("*") if path.is_file()])


def test_what_is_pushed_comes_back_equal(storage: Storage, folder: Path, tmp_path: Path) -> None:
    assert not storage.has("inputs/x")
    push(storage, folder, "inputs/x")
    assert storage.has("inputs/x")
    storage.pull("inputs/x", tmp_path / "back")
    assert files(tmp_path / "back") == files(folder)


def test_a_push_that_broke_off_is_as_none(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Storage.put

    def put(self: Storage, path: Path, name: str) -> None:
        if name.endswith("b.bin"):
            raise OSError("no space left")
        real(self, path, name)

    monkeypatch.setattr(Storage, "put", put)
    with pytest.raises(OSError, match="no space left"):
        push(storage, folder, "inputs/x")
    assert not storage.has("inputs/x")
    monkeypatch.undo()
    push(storage, folder, "inputs/x")
    assert storage.has("inputs/x")


def test_what_is_damaged_there_never_arrives(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    push(storage, folder, "inputs/x")
    storage.fs.pipe_file(f"{storage.root}/inputs/x/deep/b.bin", bytes(256))
    with pytest.raises(RunError, match="inputs/x/deep/b.bin: "):
        storage.cache("inputs/x", tmp_path / "cached")
    assert not (tmp_path / "cached" / "x").exists()


def test_what_is_not_there_is_said(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="inputs/x: is not there any more"):
        storage.pull("inputs/x", tmp_path / "back")


def test_processes_of_a_node_copy_once(
    storage: Storage, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(storage, folder, "tokens/x")
    pulled, real = [], Storage.pull

    def pull(self: Storage, name: str, into: Path) -> None:
        pulled.append(name)
        real(self, name, into)

    monkeypatch.setattr(Storage, "pull", pull)
    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(storage.cache, "tokens/x", tmp_path / "stores")
    assert pulled == ["tokens/x"]
    assert files(tmp_path / "stores" / "x") == files(folder)


@pytest.mark.parametrize(
    ("url", "shared"), [("/a", True), ("file:///a", True), ("~/a", True), ("s3://a", False)]
)
def test_folders_are_shared_and_urls_are_not(url: str, shared: bool) -> None:
    assert is_shared(url) is shared


def test_a_run_folder_is_given_without_what_a_backup_holds(folder: Path) -> None:
    for name in ("checkpoints/step-5/model.bin", "checkpoints/index.json", ".hidden/x", "y/.z"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    storage = Storage("memory://runs")
    storage.give(folder)
    found = fsspec.filesystem("memory").find(f"{storage.root}/given")
    names = {path.removeprefix(f"{storage.root}/given/") for path in found}
    assert names == {"a.txt", "deep/b.bin", "checkpoints/index.json", "files.json"}


@pytest.mark.parametrize(
    "name", ["../outside", "/tmp/outside", "a/../../outside", "C:x", "a\\b", "\0"]
)
def test_a_list_that_names_a_file_elsewhere_is_refused(
    storage: Storage, folder: Path, tmp_path: Path, name: str
) -> None:
    storage.push(folder, "inputs/x", [folder / "a.txt"])
    place = f"{storage.root}/inputs/x/files.json"
    described = json.loads(storage.fs.cat_file(place))
    described["files"][name] = described["files"]["a.txt"]
    storage.fs.pipe_file(place, json.dumps(described).encode())
    with pytest.raises(RunError, match="its list names .*, which is no file of it"):
        storage.pull("inputs/x", tmp_path / "back")
    assert not list(tmp_path.rglob("*outside*"))
