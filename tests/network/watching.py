"""Commands in an empty home, and all that they ask of the network, Python's own or not."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

_SILENT = ("ORT_", "HF_", "RAY_", "DO_NOT_TRACK")
"""How variables begin that keep libraries silent; tests of silence do without them."""
_TO = re.compile(r'htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
_STRACE = [
    "strace",
    "-A",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-e",
    "trace=connect,sendto,sendmsg,sendmmsg",
]


class Watched:
    """A home in `folder`, and the environment of commands that are watched.

    Attributes:
        home: It is empty at first.
        environment: That of a command.
    """

    def __init__(self, folder: Path) -> None:
        self.home, self._asked, self._called = (folder / each for each in ("home", "asked", "to"))
        self.home.mkdir(parents=True)
        kept = {name: os.environ[name] for name in os.environ if not name.startswith(_SILENT)}
        self.environment = kept | {
            "HOME": str(self.home),
            "PYTHONPATH": str(Path(__file__).with_name("watch")),
            "WATCHED_NETWORK": str(self._asked),
        }
        self._prefix = [*_STRACE, "-o", str(self._called)] if _may_look() else []

    def run(self, *arguments: str | Path, native: bool = False) -> str:
        """What `nlpkit` with these arguments writes; `native`: strace looks too, if it can."""
        line = [*(self._prefix if native else []), Path(sys.executable).with_name("nlpkit")]
        done = subprocess.run(
            [*line, *arguments],
            env=self.environment,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def strangers(self) -> set[str]:
        """Every name that was looked up, and every address that is not this machine's."""
        asked = [line.split() for line in self._asked.read_text().splitlines()]
        if self._called.exists():
            asked += [[to, port] for port, to in _TO.findall(self._called.read_text())]
        return {f"{to} {port}" for to, port in asked if port == "53" or not _ours(to)}


def _may_look() -> bool:
    return bool(shutil.which("strace")) and not subprocess.call(
        [*_STRACE, "-o", os.devnull, "true"]
    )


def _ours(to: str) -> bool:
    """Whether it is this machine."""
    if to in ("localhost", socket.gethostname()):
        return True
    try:
        family = socket.AF_INET6 if ip_address(to).version == 6 else socket.AF_INET
        with socket.socket(family) as mine:
            mine.bind((to, 0))
    except (ValueError, OSError):  # a name, or not one of its addresses
        return False
    return True
