"""What facts mean, and what to do: pure functions, one for each thing that was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlpkit.environment import MORE_SHARED_MEMORY, SHARED_MEMORY_FULL
from nlpkit_doctor.facts import GB, Finding, gigabytes
from nlpkit_doctor.gpus import judge_gpus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlpkit_doctor.facts import Facts

_SHARED = 10**9  # bytes of /dev/shm that are enough
_FILES = 4096
_LITTLE_DISK, _NO_DISK = 10 * GB, GB
_LITTLE_MEMORY = 4 * GB


def judge(facts: Facts) -> list[Finding]:
    """Everything that was looked at, in the order in which one would mend it."""
    return [
        Finding(topic="system", value=_system(facts)),
        Finding(topic="Python", value=facts.python),
        *judge_gpus(facts),
        *_versions(facts),
        _shared(facts),
        _cores(facts),
        *_memory(facts),
        *_disks(facts),
        *_files(facts),
        _plugins(facts),
        _ray(facts),
        *(
            Finding(topic=what, value=f"{gigabytes(size)} in {path}")
            for what, path, size in facts.caches
        ),
        *_faults(facts),
    ]


def _system(facts: Facts) -> str:
    where = [
        name for name, true in (("WSL2", facts.wsl), ("in a container", facts.container)) if true
    ]
    return ", ".join([facts.system, *where])


def _versions(facts: Facts) -> Iterator[Finding]:
    for name, version in facts.packages.items():
        if name not in ("python", "torch"):
            yield Finding(topic=name, value=version)


def _shared(facts: Facts) -> Finding:
    if facts.shared is None:
        return Finding(topic="/dev/shm", value="none, and none is needed here")
    total, free = facts.shared
    value = f"{gigabytes(total)}, {gigabytes(free)} free"
    if min(total, free) >= _SHARED:
        return Finding(topic="/dev/shm", value=value)
    remedy = "free it (df /dev/shm)"
    if total < _SHARED:
        remedy = MORE_SHARED_MEMORY
    return Finding(
        topic="/dev/shm",
        state="warning",
        value=value,
        meaning=f"{SHARED_MEMORY_FULL}; so does NCCL.",
        remedy=remedy,
    )


def _cores(facts: Facts) -> Finding:
    usable, there = facts.cores
    value = f"{usable}" if usable == there else f"{usable} of {there}"
    if facts.threads and facts.threads.isdigit() and int(facts.threads) > usable:
        return Finding(
            topic="CPU cores",
            state="warning",
            value=value,
            meaning=f"OMP_NUM_THREADS is {facts.threads}: threads wait for each other.",
            remedy="unset OMP_NUM_THREADS",
        )
    return Finding(topic="CPU cores", value=value)


def _memory(facts: Facts) -> Iterator[Finding]:
    if facts.memory is None:
        return
    usable, there = facts.memory
    value = gigabytes(usable) if usable == there else f"{gigabytes(usable)} of {gigabytes(there)}"
    if usable >= _LITTLE_MEMORY:
        yield Finding(topic="memory", value=value)
        return
    yield Finding(
        topic="memory",
        state="warning",
        value=value,
        meaning="torch and BERT-base need about 4 GB; the kernel kills what needs more.",
        remedy="allow more (docker run --memory), or take loader.workers=0 and a smaller model",
    )


def _disks(facts: Facts) -> Iterator[Finding]:
    for what, path, free in facts.disks:
        topic, value = f"disk for {what}", f"{gigabytes(free)} free at {path}"
        if free >= _LITTLE_DISK:
            yield Finding(topic=topic, value=value)
            continue
        variable = {"runs": "NLPKIT_RUNS", "token store": "NLPKIT_CACHE"}.get(what, "TMPDIR")
        yield Finding(
            topic=topic,
            state="failure" if free < _NO_DISK else "warning",
            value=value,
            meaning="A checkpoint of BERT-base takes 1.3 GB, and a run keeps two.",
            remedy=f"free some, or name another disk with {variable}",
        )


def _files(facts: Facts) -> Iterator[Finding]:
    if facts.files is None:
        return
    soft, hard = facts.files
    if soft >= _FILES:
        yield Finding(topic="open files", value=f"{soft:,}")
        return
    yield Finding(
        topic="open files",
        state="warning",
        value=f"{soft:,}",
        meaning="A Ray head, and many loader workers, need more.",
        remedy=f"ulimit -n {min(hard, 65_536)} (docker run --ulimit nofile=65536)",
    )


def _plugins(facts: Facts) -> Finding:
    works, faults = facts.plugins
    if not faults:
        return Finding(topic="plugins", value=f"{works}, all healthy")
    return Finding(
        topic="plugins",
        state="failure",
        value="; ".join(faults),
        meaning="What they should give cannot be used.",
        remedy="update or uninstall them, or name them in NLPKIT_DISABLED_PLUGINS",
    )


def _faults(facts: Facts) -> Iterator[Finding]:
    for fault in facts.faults:
        topic, _, reason = fault.partition(": ")
        meaning = "It could not be looked at; the rest of this report is whole."
        yield Finding(topic=topic, state="warning", value=reason, meaning=meaning)


def _ray(facts: Facts) -> Finding:
    if facts.ray is None:
        return Finding(topic="Ray", value="no cluster is named (RAY_ADDRESS)")
    address, fault = facts.ray
    if not fault:
        return Finding(topic="Ray", value=f"{address} answers")
    remedy = "start the head, or correct RAY_ADDRESS; a firewall may be between"
    if "token" in fault:
        remedy = "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or put it into ~/.ray/auth_token"
    return Finding(
        topic="Ray",
        state="failure",
        value=f"{address} {fault}",
        meaning="Jobs cannot be submitted.",
        remedy=remedy,
    )
