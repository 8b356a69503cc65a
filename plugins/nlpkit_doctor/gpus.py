"""What the GPUs, their driver and torch mean for training, and what to do about it.

Sources of the numbers: a driver's floor for each CUDA release is of "CUDA Compatibility", minor
version compatibility (docs.nvidia.com/deploy/cuda-compatibility); that a kernel for one compute
capability runs on later minor ones, and PTX on all later ones, is of the "CUDA C++ Programming
Guide"; the architectures of an image are those of PyTorch 2.7.1's builds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nlpkit_doctor.facts import GB, gigabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlpkit_doctor.facts import Driver, Facts, Gpu, Judged, Torch

FLOORS = {11: 450, 12: 525, 13: 580}
"""The oldest driver for each major release of CUDA."""

IMAGES = (
    ("2.7.1-cuda12.8-cudnn9-runtime", 525, (7, 5), (12, 9)),
    ("2.7.1-cuda12.6-cudnn9-runtime", 525, (5, 0), (9, 9)),
    ("2.7.1-cuda11.8-cudnn9-runtime", 450, (5, 0), (9, 9)),
)
"""Tags of pytorch/pytorch, the oldest driver, and the lowest and highest compute capability."""

_NONE_VISIBLE = ("", "-1", "NoDevFiles", "none", "void")  # values of CUDA_VISIBLE_DEVICES

_SMALL_GPU = 8 * GB
_BUSY = 0.1  # of a GPU's memory


def judge_gpus(facts: Facts) -> Iterator[tuple[str, Judged | None]]:
    """Torch, the driver, the GPUs, and how fast they are."""
    yield "torch", _torch(facts)
    yield "NVIDIA driver", _driver(facts)
    yield "GPUs", _gpus(facts)
    if facts.torch and facts.torch.available:
        yield "cuDNN", facts.torch.cudnn or "none"
        yield "NCCL", facts.torch.nccl or "none"
        for number, gpu in enumerate(facts.torch.gpus):
            yield f"GPU {number}", _gpu(facts, gpu, facts.torch.architectures)
    yield "in use", _busy(facts.driver)
    if facts.torch:
        yield from _speed(facts.torch)


def _torch(facts: Facts) -> Judged:
    remedy = "pip install 'nlpkit-sdk[train]'"
    if facts.torch:
        build = f"for CUDA {facts.torch.cuda}" if facts.torch.cuda else "without CUDA"
        return f"{facts.torch.version}, built {build}"
    if facts.torch_fault:
        remedy = f"install torch anew, in a new environment: {remedy}"
        return "failure", facts.torch_fault, "Nothing can be trained.", remedy
    meaning = "Exports to ONNX predict; nothing can be trained."
    return "warning", "not installed", meaning, remedy


def _driver(facts: Facts) -> Judged:
    version = facts.driver.version if facts.driver else facts.module
    if not version:
        return "none"
    built = re.match(r"\d+", facts.torch.cuda) if facts.torch else None
    floor = FLOORS.get(int(built[0])) if built else None
    number = _major(version)
    if facts.torch is None or floor is None or number >= floor:
        return version
    meaning = f"CUDA {facts.torch.cuda}, which torch was built for, needs {floor} or newer."
    remedy = _another_image(number, None) or f"install a driver from {floor} on"
    return "failure", version, meaning, remedy


def _major(version: str) -> int:
    """The number that a driver's version begins with; a high one where it is not known."""
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 10_000


def _another_image(driver: int, capability: tuple[int, int] | None) -> str:
    """How to get an image for this driver and GPU; "" where there is none."""
    for tag, floor, lowest, highest in IMAGES:
        if driver >= floor and (capability is None or lowest <= capability <= highest):
            return f"build the image with --build-arg BASE_IMAGE=pytorch/pytorch:{tag}"
    return ""


def _gpus(facts: Facts) -> Judged:
    """Whether there are GPUs, and torch can use them."""
    torch = facts.torch
    if torch and torch.available:
        return ", ".join(f"{gpu.name} ({gigabytes(gpu.memory)})" for gpu in torch.gpus)
    if facts.driver and facts.driver.gpus:
        return _unused(facts, ", ".join(gpu.name for gpu in facts.driver.gpus))
    if facts.module and not facts.devices and facts.container:
        meaning = "The machine runs an NVIDIA driver, and the container sees no GPU."
        remedy = "start it with --gpus all; that needs the NVIDIA container toolkit on the host"
        return "failure", "not handed into this container", meaning, remedy
    if facts.module or (facts.devices and not facts.wsl):
        meaning = facts.driver_fault or "The kernel has NVIDIA's; there is no nvidia-smi."
        remedy = "restart the container, then the machine: after an update of the driver the "
        remedy += "kernel still runs the one before"
        return "failure", "the driver does not answer", meaning, remedy
    if facts.system.startswith("Darwin"):
        return "none that CUDA can use; training is on the CPU"
    remedy = "where the machine has one: install NVIDIA's driver"
    if facts.wsl:
        remedy = "install NVIDIA's driver for Windows (none inside WSL), then `wsl --update`"
    elif facts.container:
        remedy = "where the machine has one: start the container with --gpus all"
    return "warning", "none", "Training is on the CPU.", remedy


def _unused(facts: Facts, names: str) -> Judged:
    """There are GPUs, and torch does not use them."""
    if facts.torch is None:
        return names
    if not facts.torch.cuda:
        meaning = "This build of torch has no CUDA, so training is on the CPU."
        remedy = "install a build with CUDA: pytorch.org/get-started, or use the image"
    elif facts.hidden in _NONE_VISIBLE:
        meaning = f'CUDA_VISIBLE_DEVICES is "{facts.hidden}", which hides them.'
        remedy = "unset CUDA_VISIBLE_DEVICES"
    else:
        meaning = "torch cannot use CUDA here, so training is on the CPU."
        remedy = "see the driver above; else restart the machine: driver and module may differ"
    return "failure", names, meaning, remedy


def _gpu(facts: Facts, gpu: Gpu, architectures: tuple[str, ...]) -> Judged | None:
    """What torch has for a GPU that it sees."""
    if gpu.capability is None:
        return None
    value = "compute capability {}.{}".format(*gpu.capability)
    if not _has_kernels(gpu.capability, architectures):
        driver = _major(facts.driver.version if facts.driver else facts.module)
        meaning = f"This torch has kernels for {', '.join(architectures)} alone."
        remedy = _another_image(driver, gpu.capability) or "use a newer GPU"
        return "failure", value, meaning, remedy
    if gpu.memory < _SMALL_GPU:
        meaning = "BERT-base with whole batches of 32 does not fit."
        remedy = "strategy=amp train.micro_batch_size=4 tokenizer.max_length=128, and if "
        remedy += "need be model.freeze=[embeddings, 0-5]; a step still has its whole batch"
        return "warning", f"{gigabytes(gpu.memory)}, {value}", meaning, remedy
    return value


def _has_kernels(capability: tuple[int, int], architectures: tuple[str, ...]) -> bool:
    for each in architectures:
        kind, _, number = each.partition("_")
        digits = re.match(r"\d+", number)
        if not digits:
            continue
        major, minor = divmod(int(digits[0]), 10)
        if kind == "compute" and (major, minor) <= capability:
            return True
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
    return False


def _busy(driver: Driver | None) -> Judged | None:
    """GPUs on which others compute."""
    if driver is None or not driver.gpus:
        return None
    taken = [
        f"GPU {number}: {gigabytes(gpu.used)} of {gigabytes(gpu.memory)}"
        for number, gpu in enumerate(driver.gpus)
        if gpu.used > _BUSY * gpu.memory
    ]
    if not taken and not driver.processes:
        return "by nobody"
    listed = ", ".join(f"process {pid}: {gigabytes(memory)}" for pid, memory in driver.processes)
    value = "; ".join([*taken, listed or "by processes outside this container"])
    meaning = "What others use is missing to a run, and slows it down."
    remedy = "take another GPU (device: cuda:1), or end the processes (nvidia-smi)"
    return "warning", value, meaning, remedy


def _speed(torch: Torch) -> Iterator[tuple[str, Judged]]:
    for fault in torch.faults:
        meaning = "A training step would fail in the same way."
        remedy = "see the GPU and the driver above; end what else runs on the GPU"
        yield "speed", ("failure", fault, meaning, remedy)
    where = "the GPU" if torch.available else "the CPU"
    products = ", ".join(f"{name} {value:.3g}" for name, value in torch.matmul.items())
    if products:
        yield "matrix product", f"{products} TFLOP/s on {where}"
    for what, rate in torch.rates.items():
        yield what, f"{rate:.3g} GB/s"
