"""What facts mean, and what to do: a table of what was looked at, and a pure function for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlpkit.environment import MORE_SHARED_MEMORY, SHARED_MEMORY_FULL
from nlpkit_doctor.facts import GB, Finding, gigabytes
from nlpkit_doctor.gpus import judge_gpus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlpkit_doctor.facts import Facts, Judged

_SHARED = 10**9  # bytes of /dev/shm that are enough
_FILES = 4096
_LITTLE_DISK, _NO_DISK = 10 * GB, GB
_LITTLE_MEMORY = 4 * GB


def judge(facts: Facts) -> list[Finding]:
    """Everything that was looked at, in the order in which one would mend it."""
    where = {"WSL2": facts.wsl, "in a container": facts.container}
    found: list[tuple[str, Judged | None]] = [
        ("system", ", ".join([facts.system, *(name for name in where if where[name])])),
        ("Python", facts.python),
        *judge_gpus(facts),
        *(each for each in facts.packages.items() if each[0] not in ("python", "torch")),
        ("/dev/shm", _shared(facts)),
        ("CPU cores", _cores(facts)),
        ("memory", _memory(facts)),
        *_disks(facts),
        ("open files", _files(facts)),
        ("plugins", _plugins(facts)),
        ("Ray", _ray(facts)),
        *((what, f"{gigabytes(size)} in {path}") for what, path, size in facts.caches),
        *map(_fault, facts.faults),
    ]
    return [
        Finding(topic, "ok", judged) if isinstance(judged, str) else Finding(topic, *judged)
        for topic, judged in found
        if judged is not None
    ]


def _shared(facts: Facts) -> Judged:
    if facts.shared is None:
        return "none, and none is needed here"
    total, free = facts.shared
    value = f"{gigabytes(total)}, {gigabytes(free)} free"
    if min(total, free) >= _SHARED:
        return value
    remedy = MORE_SHARED_MEMORY if total < _SHARED else "free it (df /dev/shm)"
    return "warning", value, f"{SHARED_MEMORY_FULL}; so does NCCL.", remedy


def _cores(facts: Facts) -> Judged:
    usable, there = facts.cores
    value = f"{usable}" if usable == there else f"{usable} of {there}"
    if facts.threads and facts.threads.isdigit() and int(facts.threads) > usable:
        meaning = f"OMP_NUM_THREADS is {facts.threads}: threads wait for each other."
        return "warning", value, meaning, "unset OMP_NUM_THREADS"
    return value


def _memory(facts: Facts) -> Judged | None:
    if facts.memory is None:
        return None
    usable, there = facts.memory
    value = gigabytes(usable) if usable == there else f"{gigabytes(usable)} of {gigabytes(there)}"
    if usable >= _LITTLE_MEMORY:
        return value
    meaning = "torch and BERT-base need about 4 GB; the kernel kills what needs more."
    remedy = "allow more (docker run --memory), or take loader.workers=0 and a smaller model"
    return "warning", value, meaning, remedy


def _disks(facts: Facts) -> Iterator[tuple[str, Judged]]:
    for what, path, free in facts.disks:
        topic, value = f"disk for {what}", f"{gigabytes(free)} free at {path}"
        if free >= _LITTLE_DISK:
            yield topic, value
            continue
        variable = {"runs": "NLPKIT_RUNS", "token store": "NLPKIT_CACHE"}.get(what, "TMPDIR")
        meaning = "A checkpoint of BERT-base takes 1.3 GB, and a run keeps two."
        remedy = f"free some, or name another disk with {variable}"
        yield topic, ("failure" if free < _NO_DISK else "warning", value, meaning, remedy)


def _files(facts: Facts) -> Judged | None:
    if facts.files is None:
        return None
    soft, hard = facts.files
    if soft >= _FILES:
        return f"{soft:,}"
    remedy = f"ulimit -n {min(hard, 65_536)} (docker run --ulimit nofile=65536)"
    return "warning", f"{soft:,}", "A Ray head, and many loader workers, need more.", remedy


def _plugins(facts: Facts) -> Judged:
    works, faults = facts.plugins
    if not faults:
        return f"{works}, all healthy"
    remedy = "update or uninstall them, or name them in NLPKIT_DISABLED_PLUGINS"
    return "failure", "; ".join(faults), "What they should give cannot be used.", remedy


def _ray(facts: Facts) -> Judged:
    if facts.ray is None:
        return "no cluster is named (RAY_ADDRESS)"
    address, fault = facts.ray
    if not fault:
        return f"{address} answers"
    remedy = "start the head, or correct RAY_ADDRESS; a firewall may be between"
    if "token" in fault:
        remedy = "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or put it into ~/.ray/auth_token"
    return "failure", f"{address} {fault}", "Jobs cannot be submitted.", remedy


def _fault(fault: str) -> tuple[str, Judged]:
    topic, _, reason = fault.partition(": ")
    meaning = "It could not be looked at; the rest of this report is whole."
    return topic, ("warning", reason, meaning, "")
