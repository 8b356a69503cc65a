"""Who works in a container: the user `nlp` with the ids of whoever owns the data, or `--user`."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit_image.paths import KEPT, STARTER, STATE, WORKSPACE, StartError, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "nlp"
_DEFAULT = (1000, 1000)
_LIMIT = 2**32 - 1  # of ids; the last one means none


@dataclass(frozen=True)
class Person:
    """Who everything but sshd runs as.

    Attributes:
        uid: The user's id.
        gid: The group's id.
        home: A folder that can be written to.
        name: As the system knows it; "" where it has no entry.
        root: Whether this process may still become others.
    """

    uid: int
    gid: int
    home: Path
    name: str
    root: bool

    @property
    def state(self) -> Path:
        """Where this start writes what its processes read: nobody else may write there."""
        return STATE if self.root else self.home / ".nlpkit"

    def environment(self) -> dict[str, str]:
        """What a process of this person is given."""
        name = self.name or NAME
        own = {"HOME": str(self.home), "USER": name, "LOGNAME": name, "SHELL": "/bin/bash"}
        return {**os.environ, **own}

    def rights(self) -> dict[str, Any]:
        """What `subprocess` is told, for a process to be this person's."""
        if not self.root:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups()}

    def become(self) -> None:
        """Gives up root for good, but for groups that the container was given."""
        if self.root:
            os.setgroups(self.groups())
            os.setgid(self.gid)
            os.setuid(self.uid)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Files that are made meanwhile are this person's."""
        if self.root:
            os.setegid(self.gid)
            os.seteuid(self.uid)
        try:
            yield
        finally:
            if self.root:
                os.seteuid(0)
                os.setegid(0)

    def groups(self) -> list[int]:
        """Groups of `--group-add`, such as those of device files."""
        return [group for group in os.getgroups() if group]


def person() -> tuple[Person, list[str]]:
    """Who works here, and what should be known about it.

    Raises:
        StartError: NLP_UID or NLP_GID is no id.
    """
    if os.geteuid() != 0:
        return _whoever(), []
    data = WORKSPACE / "data"
    wanted, notes = _wanted(data)
    entry = pwd.getpwnam(NAME)
    home = Path(entry.pw_dir)
    try:
        _rename(wanted)
        for folder in (home, data, WORKSPACE / "models", WORKSPACE / "notebooks"):
            _hand_over(folder, entry.pw_uid, wanted)
    except OSError as error:
        raise StartError(
            f"as root, the user {NAME} gets uid {wanted[0]} first, and that failed ({error}); "
            "start with --user of who owns the data"
        ) from None
    return Person(*wanted, home, NAME, root=True), notes


def state() -> Path:
    """Of whoever this process is: `Person.state`, where the start and what came later look."""
    return STATE if os.geteuid() == 0 else _whoever().state


def _whoever() -> Person:
    """The user of `--user`, with a home of its own where the image has none for it."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwuid(uid)
        name, home = entry.pw_name, Path(entry.pw_dir)
    except KeyError:
        name, home = "", Path(os.environ.get("HOME") or "/")
    if not os.access(home, os.W_OK) or home == Path("/"):
        home = Path(tempfile.gettempdir(), f"home-{uid}")
        home.mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid != uid:
            raise StartError(f"{home}: belongs to somebody else; name a home with -e HOME=…")
    return Person(uid, gid, home, name, root=False)


def _wanted(data: Path) -> tuple[tuple[int, int], list[str]]:
    """The ids of `nlp`: NLP_UID and NLP_GID, else those of whoever owns the mounted data."""
    owner = data.stat() if data.exists() else None
    found = _DEFAULT
    if owner and owner.st_uid and mounted(data):
        found = (owner.st_uid, owner.st_gid or _DEFAULT[1])
    ids = []
    for name, default in zip(("NLP_UID", "NLP_GID"), found, strict=True):
        text = os.environ.get(name) or str(default)
        if not re.fullmatch(r"[1-9]\d{0,9}", text) or int(text) >= _LIMIT:
            raise StartError(f'{name}: "{text}" is no id of a user that is not root; see id -u')
        ids.append(int(text))
    notes = []
    if owner and owner.st_uid == 0 and mounted(data) and not _empty(data):
        notes.append(
            f"{data} belongs to root, and {NAME} ({ids[0]}) may not be able to write there"
        )
    return (ids[0], ids[1]), notes


def _rename(wanted: tuple[int, int]) -> None:
    """Gives `nlp` its ids. Not by usermod, which changes owners below the home, mounts too."""
    uid, gid = wanted
    _edit(Path("/etc/passwd"), rf"^{NAME}:([^:]*):\d+:\d+:", rf"{NAME}:\1:{uid}:{gid}:")
    _edit(Path("/etc/group"), rf"^{NAME}:([^:]*):\d+:", rf"{NAME}:\1:{gid}:")


def _edit(path: Path, pattern: str, replacement: str) -> None:
    before = path.read_text(encoding="utf-8")
    after = re.sub(pattern, replacement, before, flags=re.MULTILINE)
    if after != before:
        path.write_text(after, encoding="utf-8")


def _empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:  # one of a network, where root is nobody
        return False


def _hand_over(folder: Path, before: int, owner: tuple[int, int]) -> None:
    """Gives somebody a folder, and what belonged to the image's own user in it; nothing mounted.

    An empty folder of root that is mounted is what an engine makes of one that was not there. A
    link leads elsewhere, where nothing is to be changed.
    """
    if folder.is_symlink():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if mounted(folder):
        if folder.stat().st_uid == 0 and _empty(folder):
            with suppress(OSError):  # said later: it cannot be written to
                os.chown(folder, *owner)
        return
    os.chown(folder, *owner)
    if before == owner[0]:
        return
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not mounted(Path(path, name))]
        for each in (Path(path, name) for name in (*folders, *files)):
            if not mounted(each) and each.lstat().st_uid == before:
                os.chown(each, *owner, follow_symlinks=False)


def prepare(who: Person) -> list[str]:
    """Makes the workspace's folders, as that person, and tells which cannot be written to."""
    refused = []
    with who.acting():
        for name in KEPT:
            folder = WORKSPACE / name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                writable = os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
            except OSError:
                writable = False
            if not writable:
                refused.append(name)
        notebook = WORKSPACE / "notebooks" / "starter.ipynb"
        if "notebooks" not in refused and not notebook.exists():
            shutil.copyfile(STARTER, notebook)
    if not refused:
        return []
    remedy = "start with --user of who owns them"
    if who.root:
        remedy = "start with -e NLP_UID=$(id -u) -e NLP_GID=$(id -g)"
    return [f"uid {who.uid} cannot write to {', '.join(refused)} of {WORKSPACE}: {remedy}"]
