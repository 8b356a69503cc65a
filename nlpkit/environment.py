"""What a run ran on: versions, threads, the commit, and the folders that nlpkit uses."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from nlpkit.errors import InputError
from nlpkit.version import __version__

SHARED_MEMORY_FULL = "Loader workers that hand over tensors end in a bus error when it is full"
MORE_SHARED_MEMORY = (
    "docker run --shm-size=2g (compose: shm_size; Kubernetes: an emptyDir in memory), or "
    "loader.workers=0"
)
"""What it means that /dev/shm is small, and what to do about it."""

_CGROUP = Path("/sys/fs/cgroup")
_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Where control groups of version 2, and of version 1, have microseconds of CPU in each period."""

_forked = False
"""Whether this process was forked from one that had imported torch, whose threads it lacks."""

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def versions(*more: str) -> dict[str, str]:
    """Versions of Python, of the packages that a run computes with, and of `more`, if installed."""
    # Of an editable install, metadata are those of the day that it was made.
    found = {"python": platform.python_version(), "nlpkit-sdk": __version__}
    for package in (*PACKAGES, *more):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def import_path() -> str:
    """This process's import path, as PYTHONPATH of a child that is to find the same modules."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the CPU quota of its control group."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    for files in _QUOTAS:
        with suppress(OSError):
            limit, period = " ".join((_CGROUP / file).read_text() for file in files).split()
            if limit.isdigit():  # "max" and -1 are no limit
                cores = min(cores, max(1, int(limit) // int(period)))
    return cores


def threads_per_rank(ranks: int) -> int:
    """Threads that each of `ranks` processes here computes with; OMP_NUM_THREADS wins.

    One in a process that was forked from one that had imported torch.
    """
    if _forked:
        return 1
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) if chosen.isdigit() and int(chosen) else max(1, usable_cores() // ranks)


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine, whatever a name may come to."""
    import ipaddress  # starting up does without both
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def git_commit() -> str | None:
    """The commit of the working directory, with "+" where it has changes; None without git."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None


def workspace() -> Path | None:
    """NLPKIT_WORKSPACE: the folder with `data` and `models` that the others' defaults are in."""
    named = os.environ.get("NLPKIT_WORKSPACE")
    return Path(os.path.expanduser(named)).absolute() if named else None


def cache_folder() -> Path:
    """Where what can be made again is kept: NLPKIT_CACHE, else `nlpkit` in the user's cache."""
    cache = os.environ.get("NLPKIT_CACHE")
    if not cache and (base := workspace()):
        return base / "data" / "processed"
    if not cache:
        cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "nlpkit")
    return Path(os.path.expanduser(cache)).absolute()


def working_folder() -> Path:
    """The working folder. Raises InputError where it was removed: much fails there, torch too."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise InputError("the working folder was removed; change to one that is there") from None


def runs_folder() -> Path:
    """Where runs go without `--out`: NLPKIT_RUNS, else `runs` in the working directory."""
    runs = os.environ.get("NLPKIT_RUNS")
    base = workspace()
    return base / "models" / "runs" if base and not runs else Path(runs or "runs")


def hub_folder() -> Path | None:
    """Where models of the hub are kept; None: wherever the hub's own library puts them."""
    base = workspace()
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HF_HOME")
    return base / "models" / "hub" if base and not own else None


def _compute_alone() -> None:
    """A child has none of its parent's threads, and OpenMP would wait for them for ever."""
    global _forked
    if torch := sys.modules.get("torch"):
        _forked = True
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)
