"""The driver of a job: `python -m nlpkit_ray.driver`, in the folder that was submitted.

It prepares the run folder, waits for its turn, trains, and keeps a copy of its log. It is what
`nlpkit train` does, in another place; it leaves with the same exit codes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit.cli.main import exit_code
from nlpkit.commands.train import report
from nlpkit.config.load import load_config
from nlpkit.run.train import train
from nlpkit_ray.launcher import Submitted, submitted
from nlpkit_ray.storage import Storage, is_shared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlpkit.cli.render import Terminal

ORDER = "job.json"  # beside config.yaml: id, user, storage, resume, and where inputs are
_COPY = 5.0  # seconds between two copies of the log


def main() -> int:
    """Runs the job of the working directory; the exit code."""
    began = time.time()
    order = json.loads(Path(ORDER).read_bytes())
    storage = Storage(order["storage"])
    with _copied_log(storage, f"logs/{order['id']}.log"):
        home = _home(order["storage"])
        overrides = [
            f"{key}={json.dumps(str(_placed(storage, home, each)))}"
            for key, each in order["inputs"].items()
        ]
        overrides.append(f"launch.storage={json.dumps(order['storage'])}")
        if not is_shared(order["storage"]) and order["backup"]:
            overrides.append(f"checkpoint.backup={order['storage']}")
        job = Submitted(
            id=order["id"],
            user=order["user"],
            since=began,
            policy=os.environ.get("NLPKIT_POOL"),
        )
        with submitted(job):
            return exit_code(lambda terminal: _train(order, overrides, home, terminal))


def _train(order: dict[str, Any], overrides: list[str], home: Path, terminal: Terminal) -> int:
    """What `nlpkit train` does; the next command is one for where the job came from."""
    config = load_config("config.yaml", overrides)
    run = train(config, out=home / order["id"], resume=order["resume"], terminal=terminal)
    report(run, terminal)
    terminal.say(f"\nNext:\n  nlpkit fetch {order['id']}")
    return 0


def _home(storage: str) -> Path:
    """Where run folders are: in a storage that nodes mount, else at the same path on each node."""
    if is_shared(storage):
        return Path(Storage(storage).root)
    home = Path(tempfile.gettempdir(), f"nlpkit-{os.getuid()}")
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def _placed(storage: Storage, home: Path, name: str) -> Path:
    """The path of an input on every node; what came with the job goes to the storage, once.

    Args:
        storage: Where inputs are kept.
        home: Where run folders are.
        name: `<sha256>/<its own name>`.
    """
    digest = name.partition("/")[0]
    package, place = Path("inputs", digest), f"inputs/{digest}"
    files = [path for path in package.rglob("*") if path.is_file()]
    if files and not storage.has(place):
        storage.push(package, place, files)
    if not (home / place).exists():
        storage.cache(place, (home / place).parent)
    return home / "inputs" / name


@contextmanager
def _copied_log(storage: Storage, name: str) -> Iterator[None]:
    """Copies what this process writes to the storage: Ray's own log goes with its node."""
    log = Path(os.readlink("/proc/self/fd/1"))
    ended = threading.Event()

    def copy() -> None:
        size = -1
        while True:
            last = ended.wait(_COPY)
            with suppress(Exception):  # the next one may succeed
                if log.stat().st_size != size:
                    size = log.stat().st_size
                    storage.put(log, name)
            if last:
                return

    thread = threading.Thread(target=copy, name="nlpkit-log", daemon=True)
    if log.is_file():
        thread.start()
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        ended.set()
        if thread.ident:
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
