"""A real Ray cluster on loopback: nodes are raylets of their own, ended by their process groups."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 60.0


def free_port() -> int:
    """A port that nobody listens at; none that the system, or Ray for its workers, may take."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


@dataclass
class Cluster:
    """A cluster; `nodes[0]` is the head."""

    port: int
    dashboard: int
    env: dict[str, str]
    folder: Path
    token: str | None = None
    python: Path = Path(sys.executable)
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"

    def start(self, *options: str, env: dict[str, str] | None = None) -> None:
        number = len(self.nodes)
        command = [
            str(self.python),
            *("-m", "ray.scripts.scripts", "start"),
            "--block",
            "--object-store-memory=100000000",
            "--disable-usage-stats",
            f"--node-ip-address=127.0.0.{number + 1}",
            f"--dashboard-agent-listen-port={free_port()}",  # the default is one for all clusters
            *options,
        ]
        log = (self.folder / f"node-{number}.log").open("wb")
        with log:
            node = subprocess.Popen(
                command,
                env={**self.env, **(env or {}), "RAY_TMPDIR": str(self.folder / f"n{number}")},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,  # nothing is imported from here by chance
                start_new_session=True,
            )
        self.nodes.append(node)

    def add_node(self, gpus: int, env: dict[str, str] | None = None) -> int:
        """Starts a node and waits until the cluster counts it; its number."""
        before = self.alive()
        number = self.start_node(gpus, env)
        _until(lambda: self.alive() > before, "the node does not join")
        return number

    def start_node(self, gpus: int, env: dict[str, str] | None = None) -> int:
        """Starts a node; its number."""
        self.start(
            f"--address=127.0.0.1:{self.port}",
            f"--num-gpus={gpus}",
            "--num-cpus=2",
            f"--temp-dir={self.folder / f'n{len(self.nodes)}'}",
            env=env,
        )
        return len(self.nodes) - 1

    def alive(self) -> int:
        """How many nodes there are."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        asked = urllib.request.Request(f"{self.address}/nodes?view=summary", headers=headers)
        with urllib.request.urlopen(asked, timeout=5) as answer:
            nodes = json.load(answer)["data"]["summary"]
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes)

    def processes(self, number: int) -> list[int]:
        """All processes of a node.

        Ray's own are in the session of `ray start`; some of them write their title over their
        environment. Drivers are in sessions of their own, and have the environment.
        """
        mark, found = f"RAY_TMPDIR={self.folder / f'n{number}'}\0".encode(), []
        session = str(self.nodes[number].pid)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    state, _, _, belongs = (
                        (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                    )
                    ours = belongs == session or mark in (entry / "environ").read_bytes()
                    if ours and state != "Z":
                        found.append(int(entry.name))
        return found

    def kill(self, number: int) -> None:
        """SIGKILL for everything of a node, and for what it was just about to start."""
        while pids := self.processes(number):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.nodes[number].wait()


def _until(condition: object, complaint: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError, KeyError, ValueError):
            if condition():  # type: ignore[operator]
                return
        time.sleep(0.2)
    raise AssertionError(complaint)


@contextmanager
def cluster(
    gpus: int = 4,
    *,
    token: str | None = None,
    env: dict[str, str] | None = None,
    cpus: int = 2,
    python: Path = Path(sys.executable),
) -> Iterator[Cluster]:
    """A head with so many logical GPUs, and what is added to it; `python` is that of all nodes."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    given |= {
        "RAY_AUTH_MODE": "token" if token else "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "default",
        **(env or {}),
    }
    if token:
        (folder / "token").write_text(token)
        given["RAY_AUTH_TOKEN_PATH"] = str(folder / "token")
    made = Cluster(free_port(), free_port(), given, folder, token, python)
    try:
        made.start(
            "--head",
            f"--port={made.port}",
            f"--dashboard-port={made.dashboard}",
            "--dashboard-host=127.0.0.1",
            f"--num-gpus={gpus}",
            f"--num-cpus={cpus}",
            f"--ray-client-server-port={free_port()}",
            f"--temp-dir={folder / 'n0'}",
        )
        _until(lambda: made.alive() >= 1, "the head does not start")
        yield made
    finally:
        for number in range(len(made.nodes)):
            made.kill(number)
        shutil.rmtree(folder, ignore_errors=True)
