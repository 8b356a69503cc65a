"""What torch says and how fast it computes: a program of its own, which may crash or hang.

`python -m nlpkit_doctor.accelerator` prints one JSON object, the values of `facts.Torch`.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 0.3  # that each measurement takes, at least
_SIDE = {"cuda": 4096, "cpu": 1024}  # of the square matrices
_MOVED = 256 * 2**20  # bytes


def main() -> None:
    """Prints what `facts.Torch` holds."""
    faults: list[str] = []
    found: dict[str, Any] = {
        "version": torch.__version__,
        "cuda": torch.version.cuda or "",
        "available": torch.cuda.is_available(),
        "cudnn": _dotted(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        "architectures": [],
        "gpus": [],
        "matmul": {},
        "rates": {},
    }
    device = "cuda" if found["available"] else "cpu"
    measures: dict[str, Callable[[Any], None]] = {
        "matmul": partial(_matmul, device),
        "rates": partial(_rates, device),
    }
    if found["available"]:
        found["architectures"] = torch.cuda.get_arch_list()
        if torch.distributed.is_nccl_available():
            found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
        measures = {"gpus": _gpus, **measures}
    for name, measure in measures.items():
        try:
            measure(found[name])
        except RuntimeError as error:
            faults.append(f"{name}: {str(error).splitlines()[0]}")
    if found["gpus"]:
        found["current"] = torch.cuda.current_device()
    sys.stdout.write(json.dumps({**found, "faults": faults}) + "\n")


def _dotted(version: int | None) -> str:
    """91002 is 9.10.2, and 8902 was 8.9.2."""
    if version is None:
        return ""
    unit = 10_000 if version >= 90_000 else 1_000
    return f"{version // unit}.{version % unit // 100}.{version % 100}"


def _gpus(found: list[dict[str, Any]]) -> None:
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        found.append({"name": about.name, "memory": about.total_memory})
        found[-1]["capability"] = [about.major, about.minor]
    for index, gpu in enumerate(found):  # this needs room on it, which others may have taken
        free, memory = torch.cuda.mem_get_info(index)
        gpu["used"] = memory - free


def _matmul(device: str, found: dict[str, float]) -> None:
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if device == "cuda":
        kinds["fp16"] = torch.float16
        if torch.cuda.get_device_capability() >= (8, 0):
            kinds["tf32"] = torch.float32
    side = _SIDE[device]
    for name, kind in kinds.items():
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        left = torch.randn(side, side, device=device).to(kind)
        found[name] = 2 * side**3 / _seconds(partial(torch.matmul, left, left), device) / 1e12


def _rates(device: str, found: dict[str, float]) -> None:
    source = torch.zeros(_MOVED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    moved = _MOVED / 1e9
    found["copy"] = 2 * moved / _seconds(lambda: target.copy_(source), device)  # read and written
    if device == "cuda":
        pinned = torch.zeros(_MOVED, dtype=torch.uint8).pin_memory()
        seconds = _seconds(lambda: target.copy_(pinned, non_blocking=True), device)
        found["host to device, pinned"] = moved / seconds


def _seconds(work: Callable[[], object], device: str) -> float:
    """How long it takes once, after it has been done once."""
    wait: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else _nothing
    work()
    wait()
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < _SECONDS or not count:
        work()
        wait()
        count += 1
    return took / count


def _nothing() -> None:
    pass


if __name__ == "__main__":
    main()
