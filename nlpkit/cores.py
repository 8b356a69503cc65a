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

_LOOK = 0.25  # seconds between two looks
_CONTENDED, _FREE = 0.2, 0.05  # seconds that its threads wait for a core for each that they run
_MOST = 16  # threads held at most; a process that leaves more cores than these alone need not care

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
    if hasattr(library, "GOMP_parallel") and any(_times()):
        _started = True
        threading.Thread(target=_watch, args=(library,), name="nlpkit-cores", daemon=True).start()


def _watch(library: ctypes.CDLL) -> None:
    ran, waited = _times()
    release: threading.Event | None = None
    while True:
        time.sleep(_LOOK)
        before, (ran, waited) = (ran, waited), _times()
        share = (waited - before[1]) / max(ran - before[0], 1)
        if not release and share > _CONTENDED:
            release = threading.Event()
            held = (library, release)
            threading.Thread(target=_hold, args=held, name="nlpkit-cores", daemon=True).start()
        elif release and share < _FREE:
            release.set()
            release = None


def _hold(library: ctypes.CDLL, release: threading.Event) -> None:
    """Holds threads that do nothing, so many that OpenMP has more than cores; until `release`."""
    import torch

    threads = library.omp_get_num_procs() - torch.get_num_threads() + 2  # this one is among them
    if 1 < threads <= _MOST:
        nothing = ctypes.cast(library.getpid, ctypes.c_void_p)
        library.GOMP_parallel(nothing, None, ctypes.c_uint(threads), ctypes.c_uint(0))
    release.wait()


def _times() -> tuple[int, int]:
    """Nanoseconds that this process's threads ran, and that they waited for a core; 0: unknown."""
    ran = waited = 0
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as file:
                numbers = file.read().split()
        except OSError:  # it has ended, or the kernel does not count
            continue
        ran, waited = ran + int(numbers[0]), waited + int(numbers[1])
    return ran, waited


def _forked() -> None:
    """A child has none of its parent's threads, and computes with one."""
    global _started
    _started = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
