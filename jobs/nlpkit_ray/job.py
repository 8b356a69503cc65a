"""A submitted job, seen from any machine that reaches the cluster's API."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import secrets
import shlex
import shutil
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, cast

from nlpkit.errors import InputError, RunError
from nlpkit.files import check_local, is_inside
from nlpkit.run.train import Run
from nlpkit_ray import transfer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nlpkit_ray.client import Connection

ENDED = ("succeeded", "failed", "stopped")
"""The states that a job does not leave."""
_POLL = 0.5  # seconds between two questions
_LOST = 60.0  # seconds in which a cluster that does not answer may come back
_LINES = 5  # lines of the log that say why a job failed


@dataclass(frozen=True)
class Job:
    """A job of a cluster.

    Attributes:
        id: Its name there, and that of its run folder in the storage.
        connection: To the cluster.
        storage: Where its run folder is; asked for where it is not given.
    """

    id: str
    connection: Connection
    storage: str = ""

    def status(self) -> str:
        """`waiting` for its turn, `running`, `succeeded`, `failed` or `stopped`."""
        state = str(self.connection.info(self.id).status).lower()
        if state in ENDED:
            return state
        return "waiting" if self.place() else "running"

    def place(self) -> str:
        """What it waits for, while it does: `waits, place 2: …`; else ""."""
        last = ""
        for line in self.connection.logs(self.id).splitlines():
            if line.startswith(("waits, place ", "starts ")):
                last = line
        return last if last.startswith("waits") else ""

    def logs(self) -> str:
        """All that it has written so far; where Ray has lost its log, the copy in the storage."""
        try:
            text = self.connection.logs(self.id)
            if text or str(self.connection.info(self.id).status).lower() not in ENDED:
                return text
        except RunError:  # the node that it was written on is gone
            pass
        with self._fetched([f"logs/{self.id}.log"]) as folder:
            return (folder / "logs" / f"{self.id}.log").read_text(encoding="utf-8")

    def follow(self) -> Iterator[str]:
        """What it writes, as it does, to its last line; across lost connections."""
        seen, lost = 0, None
        while True:
            position = 0
            try:
                for text in self.connection.tail(self.id):  # from the beginning, each time
                    new = text[max(0, seen - position) :]
                    position += len(text)
                    if new:
                        seen += len(new)
                        yield new
                ended, lost = self.status() in ENDED, None
            except RunError:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > _LOST:
                    raise
                ended = False
            if ended:
                yield self.logs()[seen:]
                return
            time.sleep(_POLL)

    def wait(self, timeout: float | None = None) -> str:
        """Returns its status once it has ended.

        Args:
            timeout: Seconds; None: for as long as it takes.

        Raises:
            TimeoutError: It has not ended by then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (state := str(self.connection.info(self.id).status).lower()) not in ENDED:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{self.id}: has not ended after {timeout:g} s")
            time.sleep(_POLL)
        return state

    def stop(self) -> None:
        """Asks it to save and leave; one that waits leaves at once. `wait` tells when it has."""
        self.connection.stop(self.id)

    def result(self) -> dict[str, Any]:
        """What result.json holds, once the job has ended.

        Raises:
            RunError: It failed or was stopped; with the last lines of its log.
        """
        if (state := self.wait()) != "succeeded":
            lines = self.logs().rstrip().splitlines()[-_LINES:]
            raise RunError("\n".join([f"{self.id}: {state}", *lines]))
        with self._fetched([f"{self.id}/result.json"]) as folder:
            result: dict[str, Any] = json.loads((folder / self.id / "result.json").read_bytes())
            return result

    def fetch(self, out: str | Path | None = None) -> Run:
        """Brings the run folder here, bundle included, verified.

        Args:
            out: The folder; by default `runs/<job id>`.

        Raises:
            InputError: There is something already, or nothing to fetch.
        """
        from nlpkit.environment import runs_folder

        check_local(out or "", "out=DIR")
        target = Path(os.path.expanduser(out)) if out else runs_folder() / self.id
        if target.exists() and any(target.iterdir()):
            raise InputError(f"{target}: is not empty; choose another out=DIR")
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._fetched([self.id], beside=target.parent) as folder:
            if target.exists():
                target.rmdir()
            (folder / self.id).rename(target)
        return Run(target.absolute())

    @contextmanager
    def _fetched(self, names: Sequence[str], beside: Path | None = None) -> Iterator[Path]:
        """What is in the storage under some names, through the cluster, in a temporary folder."""
        storage = self.storage or self.connection.info(self.id).metadata["storage"]
        name = f"nlpkit-transfer-{secrets.token_hex(6)}"
        question = {"id": name, "storage": storage, "names": list(names)}
        source = inspect.getsource(transfer)
        self.connection.submit(
            submission_id=name,
            entrypoint="exec " + shlex.join(["python", "-c", source, json.dumps(question)]),
            metadata={"nlpkit": "transfer", "job_name": f"(nlpkit hands out {self.id})"},
        )
        try:
            answer = self._answer(name)
            with TemporaryDirectory(dir=beside, prefix=".nlpkit-") as temporary:
                path, digest = Path(temporary, "files.tar"), hashlib.sha256()
                with path.open("wb") as file:
                    for chunk in self.connection.download(name, answer["file"]):
                        digest.update(chunk)
                        file.write(chunk)
                if digest.hexdigest() != answer["sha256"]:
                    raise RunError(f"{self.id}: what arrived is damaged; fetch it once more")
                files = Path(temporary, "files")
                unpack(path, files)
                path.unlink()
                yield files
        finally:
            self.connection.stop(name)
            Job(name, self.connection).wait()
            self.connection.tidy()

    def _answer(self, name: str) -> dict[str, Any]:
        """Where the files are that a transfer has packed."""
        while True:
            ended = str(self.connection.info(name).status).lower() in ENDED
            log = self.connection.logs(name)
            for line in log.splitlines():
                if line.startswith(transfer.MARK):
                    answer: dict[str, Any] = json.loads(line.removeprefix(transfer.MARK))
                    if "error" in answer:
                        raise InputError(f"{self.id}: {answer['error']}")
                    return answer
            if ended:
                lines = log.rstrip().splitlines() or ["it wrote nothing"]
                raise RunError(f"{self.id}: could not be fetched: {lines[-1]}")
            time.sleep(_POLL)


def unpack(path: Path, folder: Path) -> None:
    """Writes the files of a tar that came from elsewhere into a folder, and nothing outside of it.

    tarfile's own filters have let links out, so only what `transfer` packs is taken.

    Raises:
        RunError: It has something else in it; nothing is written then.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            members = tar.getmembers()
            places = [PurePosixPath(member.name) for member in members]
            files = {place for place, each in zip(places, members, strict=True) if each.isfile()}
            parents = {parent for place in places for parent in place.parents}
            for each in members:
                plain = each.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
                if not plain or each.issparse() or not is_inside(each.name):
                    raise RunError(f"{each.name!r}: is no file of a run; nothing of it was fetched")
            if len(set(places)) < len(places) or files & parents:
                raise RunError("a file of the run came twice; nothing of it was fetched")
            for each in members:
                place = folder / each.name
                (place if each.isdir() else place.parent).mkdir(parents=True, exist_ok=True)
                if not each.isdir():
                    with place.open("xb") as written:
                        shutil.copyfileobj(cast("IO[bytes]", tar.extractfile(each)), written)
    except (tarfile.TarError, ValueError, OSError) as error:
        raise RunError(f"what arrived is damaged: {error}; fetch it once more") from None
