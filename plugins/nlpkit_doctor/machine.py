"""Looks at this machine. It needs neither torch nor a GPU, and changes nothing."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from nlpkit.environment import (
    cache_folder,
    hub_folder,
    import_path,
    is_loopback,
    runs_folder,
    usable_cores,
    versions,
)
from nlpkit.errors import NlpkitError, shorten
from nlpkit.plugin.host import Host
from nlpkit.plugin.imports import named
from nlpkit_doctor.facts import Driver, Facts, Gpu, Torch

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_PATIENCE = 30  # seconds for nvidia-smi, which waits for a driver that starts
_TORCH = 180  # seconds for torch: its first import from a cold network disk is slow
_RAY = 3  # seconds
_MIB = 2**20
_CONTAINED = ("/.dockerenv", "/run/.containerenv")
_MEMORY_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def look() -> Facts:
    """What there is to know; what cannot be found out is left at its default, and said."""
    faults: list[str] = []

    def found(look_at: Callable[[], T], otherwise: Any) -> T:
        try:
            return look_at()
        except Exception as error:  # whatever the machine is, there is a report in the end
            faults.append(f"{look_at.__name__.strip('_')}: {named(error)}")
            return cast("T", otherwise)

    torch, fault = found(_torch, (None, "could not be asked"))
    driver, driver_fault = found(_driver, (None, ""))
    return Facts(
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        python=f"{platform.python_version()}, {sys.executable}",
        packages=found(_packages, {}),
        container=found(_in_container, False),
        wsl="microsoft" in platform.release().lower(),
        devices=found(_devices, False),
        module=found(_module, ""),
        driver=driver,
        driver_fault=driver_fault,
        hidden=os.environ.get("CUDA_VISIBLE_DEVICES"),
        torch=torch,
        torch_fault=fault,
        cores=found(_cores, (1, 1)),
        threads=os.environ.get("OMP_NUM_THREADS"),
        memory=found(_memory, None),
        shared=found(_shared, None),
        disks=found(_disks, ()),
        files=found(_files, None),
        caches=found(_caches, ()),
        plugins=found(_plugins, (0, ("could not be listed",))),
        ray=found(_ray, None),
        faults=tuple(faults),
    )


def _torch() -> tuple[Torch | None, str]:
    """What torch says, in a process of its own; else why it says nothing."""
    command = [sys.executable, "-P", "-m", "nlpkit_doctor.accelerator"]
    try:
        run = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": import_path()},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TORCH,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"did not answer within {_TORCH} s"
    if run.returncode:
        lines = (run.stderr.strip() or "it said nothing").splitlines()
        raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
        last = [*lines, *raised][-1]  # CUDA's errors end with lines of advice
        if "No module named 'torch'" in last:
            return None, ""
        ended = f"signal {-run.returncode}" if run.returncode < 0 else f"code {run.returncode}"
        return None, f"ended with {ended}: {shorten(last, 200)}"
    lines = run.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):
        return None, f"said nothing of use: {shorten(' '.join(lines), 200)}"
    found = json.loads(lines[-1])
    found["gpus"] = [{**gpu, "capability": tuple(gpu["capability"])} for gpu in found["gpus"]]
    found["gpus"] = tuple(Gpu(**gpu) for gpu in found["gpus"])
    lists = {name: tuple(found[name]) for name in ("architectures", "faults")}
    return Torch(**found | lists), ""


def _packages() -> dict[str, str]:
    return versions("torchvision", "torchaudio", "onnxruntime", "ray")


def _cores() -> tuple[int, int]:
    return usable_cores(), os.cpu_count() or 1


def _devices() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*")) or os.path.exists("/dev/dxg")


def _in_container() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(map(os.path.exists, _CONTAINED))


def _module() -> str:
    """The version of the kernel's driver, which a container sees too that got no GPU."""
    with suppress(OSError, ValueError):
        words = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split()
        return next((word for word in words if word.replace(".", "").isdigit()), "")
    return ""


def _driver() -> tuple[Driver | None, str]:
    """What nvidia-smi says; else why it says nothing."""
    gpus, fault = _smi("--query-gpu=memory.total,memory.used,driver_version,name")
    if not gpus:
        return None, fault
    used, _ = _smi("--query-compute-apps=pid,used_memory")
    driver = Driver(
        version=gpus[0][2],
        gpus=tuple(
            Gpu(name=name, memory=_number(total) * _MIB, used=_number(busy) * _MIB)
            for total, busy, _, name in gpus
        ),
        processes=tuple((_number(pid), _number(memory) * _MIB) for pid, memory in used),
    )
    return driver, ""


def _smi(query: str) -> tuple[list[list[str]], str]:
    """Rows of the values asked for, and what else it said; warnings stand between the rows.

    The last value may hold commas, and any bytes: a name does.
    """
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi did not answer within {_PATIENCE} s"
    except OSError:
        return [], ""
    width = query.count(",") + 1
    rows = [line.split(", ", width - 1) for line in run.stdout.splitlines()]
    whole = [row for row in rows if len(row) == width and re.match(r"\d|\[", row[0])]
    fitting = [] if run.returncode else whole
    said = " ".join((run.stdout + run.stderr).split())
    return fitting, "" if fitting else shorten(f"nvidia-smi: {said}", 200)


def _number(text: str) -> int:
    """0 for "[N/A]"."""
    return int(text) if text.isdigit() else 0


def _memory() -> tuple[int, int] | None:
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    usable = there
    for path in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # ValueError: "max"
            usable = min(usable, int(Path(path).read_text(encoding="ascii")))
    return usable, there


def _shared() -> tuple[int, int] | None:
    with suppress(OSError):
        usage = shutil.disk_usage("/dev/shm")
        return usage.total, usage.free
    return None


def _disks() -> tuple[tuple[str, str, int], ...]:
    """Where nlpkit writes: each folder, or the nearest above it that exists."""
    found = []
    folders = {
        "runs": runs_folder().absolute(),
        "token store": cache_folder(),
        "temporary files": Path(tempfile.gettempdir()),
    }
    for what, folder in folders.items():
        nearest = next(each for each in (folder, *folder.parents) if os.path.exists(each))
        found.append((what, str(folder), shutil.disk_usage(nearest).free))
    return tuple(found)


def _files() -> tuple[int, int] | None:
    try:
        from resource import RLIMIT_NOFILE, getrlimit
    except ImportError:
        return None
    return getrlimit(RLIMIT_NOFILE)


def _caches() -> tuple[tuple[str, str, int], ...]:
    hub = hub_folder() or (
        os.environ.get("HF_HUB_CACHE")
        or os.path.join(os.environ.get("HF_HOME") or "~/.cache/huggingface", "hub")
    )
    models = Path(os.path.expanduser(hub))
    folders = {"token store": cache_folder() / "tokens", "models of the hub": models}
    return tuple((what, str(folder), _size(folder)) for what, folder in folders.items())


def _size(folder: Path) -> int:
    """Bytes of the files below; links count nothing, for the hub's cache is made of them."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                about = os.lstat(os.path.join(path, name))
                total += about.st_size if not os.path.islink(os.path.join(path, name)) else 0
    return total


def _plugins() -> tuple[int, tuple[str, ...]]:
    try:
        listing = Host.discover().listing()
    except NlpkitError as error:  # NLPKIT_STRICT_PLUGINS
        return 0, (str(error),)
    faults = [
        f"{each['plugin']} ({each['distribution']} {each['version']}): {each['error']}"
        for each in listing
        if each["kind"] == "failure"
    ]
    faults += {each["error"] for each in listing if each["kind"] != "failure" and each["error"]}
    return len({each["plugin"] for each in listing}) - len(faults), tuple(faults)


def _ray() -> tuple[str, str] | None:
    """Whether the dashboard of RAY_ADDRESS answers; of another port than HTTP's, its host's.

    The token goes over https or to this machine, and neither to a proxy nor where it is sent on to.
    """
    address = os.environ.get("RAY_ADDRESS", "").rstrip("/")
    if address in ("", "local"):
        return None
    if not address.startswith(("http://", "https://")):
        host = urlsplit(address if "://" in address else f"//{address}").hostname
        address = f"http://{'127.0.0.1' if host == 'auto' else host}:8265"
    try:
        request = urllib.request.Request(f"{address}/api/version")
        safe = address.startswith("https://") or is_loopback(address)
        if safe and (token := _token()):
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_RAY):
            return address, ""
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            return address, str(error)
        return address, "wants another token" if safe else "wants a token, which http would show"
    except (OSError, ValueError, HTTPException) as error:
        return address, f"does not answer ({getattr(error, 'reason', error)})"


def _token() -> str:
    """Where Ray looks for it."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    path = os.path.expanduser(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
    with suppress(OSError, ValueError):
        return Path(path).read_text(encoding="ascii").strip()
    return ""
