"""What is known of a machine, and what was found: plain values, which tests can make up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

GB = 10**9


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, as the driver or torch sees it.

    Attributes:
        name: Of the product.
        memory: Bytes that it has.
        used: Bytes in use, by whomever.
        capability: Its compute capability, (9, 0) say; None where only the driver was asked.
    """

    name: str
    memory: int
    used: int = 0
    capability: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Driver:
    """What NVIDIA's driver says.

    Attributes:
        version: Such as "535.104.05".
        gpus: The GPUs that this machine, or container, may use.
        processes: Process id and bytes of GPU memory of each program that computes on them.
    """

    version: str
    gpus: tuple[Gpu, ...] = ()
    processes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Torch:
    """What torch says, and what it measured.

    Attributes:
        version: Of torch.
        cuda: The CUDA version that it was built for; "" for a build without.
        available: Whether it can use CUDA here.
        cudnn: Its version.
        nccl: Its version.
        architectures: What it has kernels for: "sm_90", or "compute_90" to be compiled for newer.
        gpus: The GPUs that it sees.
        current: Which of them is used unless another one is named.
        matmul: Tera floating-point operations a second in a matrix product, by precision.
        rates: Gigabytes a second, by what was moved.
        faults: What went wrong when it computed.
    """

    version: str
    cuda: str = ""
    available: bool = False
    cudnn: str = ""
    nccl: str = ""
    architectures: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    current: int | None = None
    matmul: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a machine.

    Attributes:
        system: Operating system, its version, and the architecture.
        python: Its version and path.
        packages: Versions of what nlpkit computes with.
        container: Whether this is inside a container.
        wsl: Whether this is Linux under Windows.
        devices: Whether device files of a GPU can be seen.
        module: Version of the NVIDIA driver that the kernel runs; "" where it runs none.
        driver: What nvidia-smi says; None where it says nothing.
        driver_fault: Why not; "" where there is no nvidia-smi.
        hidden: The value of CUDA_VISIBLE_DEVICES; None where it is not set.
        torch: None where torch cannot be imported, or did not answer.
        torch_fault: Why not; "" where it is not installed.
        cores: Cores that may be used, and that there are.
        threads: The value of OMP_NUM_THREADS; None where it is not set.
        memory: Bytes that may be used, and that there are.
        shared: Bytes of /dev/shm, and those that are free; None where there is none.
        disks: What is kept there, the folder, and its free bytes.
        files: How many files a process may open, and how many it could be allowed.
        caches: What is kept there, the folder, and its bytes.
        plugins: How many plugins work, and what is wrong with the others.
        faults: What could not be found out, and why.
        ray: The address of a Ray dashboard and what is wrong with it, "" for nothing; None where
            no cluster is named.
    """

    system: str
    python: str
    packages: dict[str, str]
    container: bool = False
    wsl: bool = False
    devices: bool = False
    module: str = ""
    driver: Driver | None = None
    driver_fault: str = ""
    hidden: str | None = None
    torch: Torch | None = None
    torch_fault: str = ""
    cores: tuple[int, int] = (1, 1)
    threads: str | None = None
    memory: tuple[int, int] | None = None
    shared: tuple[int, int] | None = None
    disks: tuple[tuple[str, str, int], ...] = ()
    files: tuple[int, int] | None = None
    caches: tuple[tuple[str, str, int], ...] = ()
    plugins: tuple[int, tuple[str, ...]] = (0, ())
    ray: tuple[str, str] | None = None
    faults: tuple[str, ...] = ()


Judged = str | tuple[Literal["warning", "failure"], str, str, str]
"""What was found; where something is wrong its state, what was found, what follows, a remedy."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: What it is about.
        state: Whether something must or should be done.
        value: What was found.
        meaning: What follows from it; "" where all is well.
        remedy: What to do.
    """

    topic: str
    state: Literal["ok", "warning", "failure"]
    value: str
    meaning: str = ""
    remedy: str = ""


def gigabytes(size: float) -> str:
    """Bytes, as they are shown."""
    return f"{size / GB:,.1f} GB"
