"""The launcher `local`: trains in this process, or starts one process for each rank.

Ranks are subprocesses in sessions of their own, so that Ctrl-C reaches this process alone, which
tells them; `nlpkit.run.rank` is their side. No rank outlives a launch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from nlpkit import errors
from nlpkit.cli.render import Terminal
from nlpkit.environment import import_path
from nlpkit.errors import NlpkitError, RunError
from nlpkit.plugin.host import load
from nlpkit.plugin.records import KINDS
from nlpkit.run.rank import PYTHONPATH, STOPPED, Notes
from nlpkit.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MODULE = "nlpkit.worker"
_WORK = "nlpkit.worker:work"
_ONE_AT_A_TIME = threading.Lock()  # random generators and threads belong to the whole process
_POLL = 0.05  # seconds between two looks at the ranks
_GRACE = 3.0  # seconds that the others have to say what is wrong, once one has failed
_TAIL = 20  # lines that are shown of what a rank wrote that died without saying why


class LocalLauncher:
    """Runs in this process, or one process for each rank."""

    def launch(self, run_dir: Path, ranks: int, stop: Callable[[], bool]) -> bool:
        """Runs `ranks` processes to the end: true; or, once `stop` says so, saves: false.

        Raises:
            NlpkitError: What the run raised; with rank and step, unless all ranks raised the same.
        """
        if not ranks:
            work = load(KINDS["launcher"](name="local", target=_WORK, extra="train"), _WORK)
            with _ONE_AT_A_TIME:
                return bool(work(run_dir, stop=stop))
        terminal = Terminal()
        with tempfile.TemporaryDirectory(prefix="nlpkit-") as folder:
            with _started(run_dir, ranks, Path(folder), terminal) as started:
                _watch(started, stop, terminal)
            return _outcome(started, stop(), terminal)


def local_launcher(options: None) -> LocalLauncher:
    """The launcher `local`."""
    return LocalLauncher()


class _Rank:
    """A rank's process, seen from outside.

    Attributes:
        code: Its exit code, negative for a signal; None while it runs.
        alive: When it was last seen running, by the monotonic clock.
        notes: What it leaves.
        output: The file of what it writes; empty for a rank 0 that writes to our terminal.
    """

    def __init__(self, number: int, ranks: int, run_dir: Path, folder: Path) -> None:
        self.code: int | None = None
        self.alive, self.notes = time.monotonic(), Notes(folder, number)
        self.output = folder / f"output-{number}"
        with self.output.open("wb") as file:
            shown = number == 0 and _has_real_streams()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, str(run_dir), str(folder)],
                env=_environment(number, ranks) | ({} if shown else {"PYTHONIOENCODING": "utf-8"}),
                stdin=subprocess.PIPE,
                stdout=None if shown else file,
                stderr=None if shown else file,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        now = time.monotonic()
        self.code = self._process.poll()
        if self.code is None:
            self.alive = now
        return self.code is None

    @property
    def failed(self) -> bool:
        """Whether it left in another way than finished or stopped."""
        return self.code not in (None, 0, *STOPPED)

    @property
    def place(self) -> str:
        """Which rank it is, and how far it came."""
        step = self.notes.step
        return f"rank {self.notes.rank}, {f'step {step}' if step else 'before its first step'}"

    def tell(self) -> None:
        """Asks it to stop after this step."""
        with suppress(OSError):  # it has left
            os.write(cast("IO[bytes]", self._process.stdin).fileno(), b"\n")

    def kill(self) -> None:
        """Ends it where it still runs, and the loader workers of one that failed."""
        if self.code is None or self.failed:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Returns when it has ended."""
        self._process.communicate()


@contextmanager
def _started(run_dir: Path, ranks: int, folder: Path, terminal: Terminal) -> Iterator[list[_Rank]]:
    """The ranks' processes; none of them is left at the end, whatever happens."""
    started: list[_Rank] = []
    try:
        for number in range(ranks):
            started.append(_Rank(number, ranks, run_dir, folder))
        yield started
    finally:
        for rank in started:
            rank.kill()
        for rank in started:
            rank.wait()
        if started and (started[0].code is None or started[0].code < 0):
            terminal.restore()


def _environment(number: int, ranks: int) -> dict[str, str]:
    given = {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "PYTHONPATH": import_path(),
        PYTHONPATH: os.environ.get("PYTHONPATH", ""),
    }
    interfaces = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if sys.platform == "linux" else ()
    loopback = dict.fromkeys(interfaces, "lo")  # nothing listens to other machines
    return {**loopback, **os.environ, **given}


def _has_real_streams() -> bool:
    """Whether what a child writes appears where our own lines do: not in a notebook."""
    try:
        return (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
    except (OSError, ValueError, AttributeError):
        return False


def _watch(ranks: Sequence[_Rank], stop: Callable[[], bool], terminal: Terminal) -> None:
    """Waits until all have left; once one has failed, for a short time only."""
    told, deadline, line = False, None, ""
    with ranks[0].output.open(encoding="utf-8", errors="replace") as output:
        while [rank for rank in ranks if rank.running]:
            *lines, line = (line + output.read()).split("\n")
            for each in lines:
                terminal.note(each)
            if deadline is None and any(rank.failed for rank in ranks):
                deadline = time.monotonic() + _GRACE
            if deadline is not None and time.monotonic() > deadline:
                break
            if not told and stop():
                told = True
                for rank in ranks:
                    rank.tell()
            time.sleep(_POLL)
        for each in (line + output.read()).splitlines():
            terminal.note(each)


def _outcome(ranks: Sequence[_Rank], stopping: bool, terminal: Terminal) -> bool:
    """Whether they finished. Raises what ended them, unless they were asked to stop."""
    failed = [rank for rank in ranks if rank.failed]
    early = any(-(rank.code or 0) in SIGNALS for rank in failed)  # before it could listen
    if failed and not (stopping and early):
        raise _cause(ranks, terminal)
    sent = [rank for rank in ranks if (rank.code or 0) > 128]
    if sent and not stopping:  # to ranks alone, not to this process
        name = signal.Signals(cast("int", sent[0].code) - 128).name
        raise RunError(f"{sent[0].place}: it was sent {name}; what was learned is saved")
    return not any(rank.code for rank in ranks)


def _cause(ranks: Sequence[_Rank], terminal: Terminal) -> NlpkitError:
    """What failed first; a killed rank counts from when it was last seen, before what followed."""
    found = {rank: rank.notes.error for rank in ranks}

    def when(rank: _Rank) -> float:
        error = found[rank]
        return float(error["time"]) if error else rank.alive

    first = min((rank for rank in ranks if rank.failed or found[rank]), key=when)
    error, code = found[first], first.code or 0
    if error:
        if error["traceback"]:
            terminal.note(error["traceback"].rstrip())
        same = all(each and each["text"] == error["text"] for each in found.values())
        place = "" if same and not error["traceback"] else f"{first.place}: "
        return cast("NlpkitError", getattr(errors, error["kind"])(place + error["text"]))
    if first is not ranks[0]:  # whose output is shown already
        written = first.output.read_text(encoding="utf-8", errors="replace")
        for line in written.splitlines()[-_TAIL:]:
            terminal.note(line)
    if code > 0:
        return RunError(f"{first.place}: it left with exit code {code}, without an error")
    fate = f"{first.place}: it was killed by signal {-code} ({signal.strsignal(-code)})"
    remedy = "a smaller train.micro_batch_size or fewer loader.workers help"
    return RunError(f"{fate}; where memory ran out, {remedy}" if -code == signal.SIGKILL else fate)
