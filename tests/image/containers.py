"""Containers of the image, without an engine: buildah runs its ENTRYPOINT and CMD in a chroot.

The network and the process ids are the machine's, so ports are chosen and ends are by process id.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).parents[2]
BASE = "localhost/nlpkit-base"
IMAGE = "localhost/nlpkit"
MIRRORS = {"APT_MIRROR": "http://deb.debian.org:80", "PIP_INDEX_URL": "https://pypi.org:443/simple"}
"""The usual places by other names, which nothing else writes."""


def buildah(*words: object, timeout: float = 1200, **options: Any) -> str:
    run = subprocess.run(
        ["buildah", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Any, what: str, seconds: float = 90) -> Any:
    """What `true()` gives, once that is something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


class Container:
    """A container of an image: its own layer, its mounts, and what is started in it.

    Attributes:
        root: The file system, as seen from outside.
        log: What was written so far, both streams.
    """

    def __init__(self, image: str, folder: Path) -> None:
        self.name = buildah("from", image).strip()
        self.root = Path(buildah("mount", self.name).strip())
        self._folder = folder
        config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
        self._entry, self._command = config["Entrypoint"], config["Cmd"]
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def _line(
        self,
        words: Sequence[str],
        mounts: Mapping[Path, str],
        env: Mapping[str, str],
        user: str,
    ) -> list[str]:
        line = ["buildah", "run", "--isolation", "chroot"]
        for source, target in mounts.items():
            line += ["--volume", f"{source}:{target}"]
        line += ["--user", user] if user else []
        given = [f"{name}={value}" for name, value in env.items()]
        return [*line, self.name, "--", "env", *given, *words]

    def run(
        self,
        *arguments: str,
        mounts: Mapping[Path, str] | None = None,
        env: Mapping[str, str] | None = None,
        user: str = "",
        timeout: float = 600,
        shm: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Starts it, to its end; `shm` is the size of its /dev/shm, by default the machine's."""
        words = [*self._entry, *(arguments or self._command)]
        line = self._line(words, mounts or {}, env or {}, user)
        if shm:
            small = f'mount -t tmpfs -o size={shm},mode=1777 tmpfs /dev/shm && exec "$@"'
            line = ["unshare", "--mount", "sh", "-c", small, "sh", *line]
        return subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False)

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What `docker exec` does: a program beside what was started."""
        line = self._line(words, {}, {}, "")
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    def start(
        self,
        *arguments: str,
        mounts: Mapping[Path, str] | None = None,
        env: Mapping[str, str] | None = None,
        user: str = "",
    ) -> None:
        """Starts it, and returns at once."""
        words = [*self._entry, *(arguments or self._command)]
        line = self._line(words, mounts or {}, env or {}, user)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                line, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def waits_for(self, text: str) -> str:
        """The log, once a text is in it."""
        return str(until(lambda: self.log if text in self.log else "", f"{text}\n{self.log}"))

    def pids(self) -> list[int]:
        """Processes whose root is this container's, in the order of their start."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.path.samefile(path / "root", self.root):
                    found.append(int(path.name))
            except OSError:
                continue
        return sorted(found)

    def named(self, *words: str) -> list[int]:
        """Those with all of these words in their command line."""
        found = []
        for pid in self.pids():
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(pid)
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends what `docker stop` sends to the first process; the exit code."""
        for pid in self.pids():
            if Path(f"/proc/{pid}/comm").read_text().strip() == "tini":  # not buildah, round it
                os.kill(pid, number)
        return self.ended()

    def ended(self, seconds: float = 60) -> int:
        assert self._process is not None
        return self._process.wait(seconds)

    def remove(self) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        subprocess.run(["buildah", "umount", self.name], capture_output=True, check=False)
        buildah("rm", self.name)


@contextmanager
def container(folder: Path, image: str = IMAGE) -> Iterator[Container]:
    """A container that is gone at the end, with all that runs in it."""
    made = Container(image, folder)
    try:
        yield made
    finally:
        made.remove()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def status(url: str, **headers: str) -> int | None:
    """What a server answers with, unredirected; None where it does not answer."""
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def private(path: Path, text: str) -> Path:
    """A file of root that nobody else may read."""
    path.write_text(text)
    path.chmod(0o600)
    os.chown(path, 0, 0)
    return path
