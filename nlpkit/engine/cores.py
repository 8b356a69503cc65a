"""Shares the cores with other programs: where they are contended, waiting threads sleep.

torch's threads wait for each other many times in a step. GNU OpenMP lets them spin meanwhile, which
is the fastest on cores of one's own, and takes the cores from whoever computes there too: on two
cores, two trainings together are then ten times slower than one alone. How long they spin is fixed
when the library is loaded, but for one thing: it is an instant while a process has more OpenMP
threads than cores. So a process that waits for its cores holds a few threads that sleep, and lets
them go when the cores are its own again. How many threads compute stays, and with it every bit of
a result.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from contextlib import suppress

_LOOK = 0.25  # seconds between two looks
_CONTENDED, _FREE = 0.2, 0.05  # seconds that threads wait for a core for each that they compute
_MOST = 256  # threads held at most
_NAME = "nlpkit-cores"

_started = False


def share() -> None:
    """From now on, and to the end of this process, its threads spin on cores of its own only.

    Does nothing where OMP_WAIT_POLICY or GOMP_SPINCOUNT say what is wanted, where torch computes
    with another OpenMP than GNU's, and where the kernel does not tell for how long threads waited.
    """
    global _started
    if _started or {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        return
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    others = hasattr(library, "__kmpc_fork_call")  # LLVM's and Intel's, which have GNU's names too
    if hasattr(library, "GOMP_parallel") and not others:
        _started = True
        with suppress(RuntimeError):  # there is no thread to be had
            threading.Thread(target=_watch, args=(library,), name=_NAME, daemon=True).start()


def _watch(library: ctypes.CDLL) -> None:
    release: threading.Event | None = None
    try:
        times = _times()
        while times:
            time.sleep(_LOOK)
            before, times = times, _times()
            both = before.keys() & times.keys()
            ran, waited = (sum(times[id][of] - before[id][of] for id in both) for of in (0, 1))
            if not release and waited > _CONTENDED * ran:
                held = threading.Event()
                args = (library, held)
                threading.Thread(target=_hold, args=args, name=_NAME, daemon=True).start()
                release = held
            elif release and waited < _FREE * ran:
                release.set()
                release = None
    except (OSError, RuntimeError):  # there is no file or no thread to be had
        if release:
            release.set()


def _hold(library: ctypes.CDLL, release: threading.Event) -> None:
    """Holds threads that do nothing, so many that OpenMP has more than cores; until `release`."""
    import torch

    threads = library.omp_get_num_procs() - torch.get_num_threads() + 2  # this one is among them
    if 1 < threads <= _MOST and _can_start(threads):
        nothing = ctypes.cast(library.getpid, ctypes.c_void_p)
        library.GOMP_parallel(nothing, None, ctypes.c_uint(threads), ctypes.c_uint(0))
    release.wait()


def _can_start(threads: int) -> bool:
    """Whether there are twice as many to be had; OpenMP ends the process where one is missing."""
    leave = threading.Event()
    try:
        for _ in range(2 * threads):
            threading.Thread(target=leave.wait, name=_NAME, daemon=True).start()
    except RuntimeError:
        return False
    finally:
        leave.set()
    return True


def _times() -> dict[str, tuple[int, int]]:
    """Nanoseconds that each thread computed, and that it waited for a core; none: unknown."""
    found = {}
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            with open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as file:
                ran, waited, _ = map(int, file.read().split())
            found[thread] = ran, waited
    return found


def _forked() -> None:
    """A child has none of its parent's threads, and computes with one."""
    global _started
    _started = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
