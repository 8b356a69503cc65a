"""What the nodes share: a folder that all of them mount, or anything that fsspec reaches.

Below it: `<job id>/`, a run folder; `tokens/<key>/`, token stores; `inputs/<sha256>/`, what a
config names; `logs/<job id>.log`. What is copied as a whole has a list of its files, written last.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]

from nlpkit.checkpoint.backup import backup_of
from nlpkit.checkpoint.files import listed, remove
from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.data.prepare import stores
from nlpkit.errors import RunError
from nlpkit.files import fault_of, hashes, is_inside, replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LIST = "files.json"
_CHECKPOINTS = "checkpoints"


def is_shared(url: str) -> bool:
    """Whether a storage is a folder that nodes mount."""
    return "://" not in url or url.startswith("file://")


class Storage:
    """A place of a cluster.

    Args:
        url: A folder or an fsspec URL; endpoints and credentials come from the environment.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.fs: Any
        self.fs, root = fsspec.core.url_to_fs(self.url)
        self.root: str = root.rstrip("/")
        self.fs.invalidate_cache()

    @property
    def is_shared(self) -> bool:
        """Whether it is a folder that nodes mount, where a run folder can be used as it lies."""
        return is_shared(self.url)

    def has(self, name: str) -> bool:
        """Whether a folder was copied there whole."""
        return bool(self.fs.exists(f"{self.root}/{name}/{_LIST}"))

    def push(self, folder: Path, name: str, paths: Sequence[Path]) -> None:
        """Copies files of a folder, and then the list of them, to the place `name`."""
        described = hashes(folder, paths)
        for each in described:
            self.put(folder / each, f"{name}/{each}")
        with TemporaryDirectory() as temporary:
            files = Path(temporary, _LIST)
            files.write_text(json.dumps({"files": described}), encoding="utf-8")
            self.put(files, f"{name}/{_LIST}")

    def put(self, path: Path, name: str) -> None:
        """Copies one file to the place `name`, where it appears whole."""
        target = f"{self.root}/{name}"
        if "file" not in self.fs.protocol:  # an object is there when all of it is
            self.fs.put_file(str(path), target)
            return
        self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        with replacing(Path(target)) as partial:
            self.fs.put_file(str(path), str(partial))

    def pull(self, name: str, folder: Path) -> None:
        """Brings what `push` put at `name` into a folder; files that are there already stay.

        Raises:
            RunError: It is not there, or not what was put there.
        """
        place = f"{self.root}/{name}"
        try:
            described = json.loads(self.fs.cat_file(f"{place}/{_LIST}"))["files"]
        except FileNotFoundError:
            raise RunError(f"{self.url}/{name}: is not there any more") from None
        for each, expected in described.items():
            if not is_inside(each):
                raise RunError(
                    f"{self.url}/{name}: its list names {each!r}, which is no file of it"
                )
            path = folder / each
            if not fault_of(path, expected):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                self.fs.get_file(f"{place}/{each}", str(partial))
                if fault := fault_of(partial, expected):
                    raise RunError(f"{self.url}/{name}/{each}: {fault}")

    def keep_tokens(self, path: Path) -> None:
        """Copies a token store there, unless it is there."""
        name = f"tokens/{path.name}"
        if not self.has(name):
            self.push(path, name, [each for each in path.rglob("*") if each.is_file()])

    def bring_tokens(self, run_dir: Path) -> None:
        """Sees that this node has the token store of a run."""
        environment = json.loads((run_dir / "environment.json").read_bytes())
        self.cache(f"tokens/{Path(environment['tokens']).name}", stores())

    def cache(self, name: str, folder: Path) -> None:
        """Copies what is at `name` below a folder, once for all processes of this node."""
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / Path(name).name
        with _alone(target):
            if target.exists():
                return
            with TemporaryDirectory(dir=folder, prefix=".") as temporary:
                made = Path(temporary, "made")
                self.pull(name, made)
                made.rename(target)

    def bring(self, run_dir: Path) -> None:
        """Makes a run folder as the storage has it: files, token store, newest checkpoint."""
        run_dir.mkdir(parents=True, exist_ok=True)
        with _alone(run_dir):
            self.pull(run_dir.name, run_dir)
            config = load_config(run_dir / "config.yaml")
            backup, folder = backup_of(config, run_dir.name), run_dir / _CHECKPOINTS
            found = backup.newest(folder, 0, Terminal().note) if backup else None
            for step, path in listed(folder):
                if step > (found.step if found else 0):  # no other node has it
                    remove(path)
        self.bring_tokens(run_dir)
        inputs = run_dir.parent / "inputs"
        for text in _strings(config.model_dump(mode="json")):
            if inputs in Path(text).parents:
                self.cache(f"inputs/{Path(text).relative_to(inputs).parts[0]}", inputs)

    def give(self, run_dir: Path) -> None:
        """Puts a run folder there; its checkpoints are there already, as a backup."""
        paths = [path for path in run_dir.rglob("*") if path.is_file()]
        parts = [(path, path.relative_to(run_dir).parts) for path in paths]
        chosen = [
            path
            for path, names in parts
            if (names[0] != _CHECKPOINTS or len(names) == 2)
            and not any(name.startswith(".") for name in names)
        ]
        self.push(run_dir, run_dir.name, chosen)


def _strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a path among the processes of this node."""
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
