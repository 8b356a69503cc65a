"""fp32, or bf16 autocast over fp32 weights; the one place that goes backward, clips and steps."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nlpkit.errors import ConfigError, Problem


class Step(NamedTuple):
    """What one optimizer step came to, on the host.

    Attributes:
        loss: This rank's share of the mean loss of the whole batch.
        norm: The gradient's norm over all parameters, before clipping.
        taken: Whether the weights moved.
        stopping: Whether some rank asked to stop.
    """

    loss: float
    norm: float
    taken: bool
    stopping: bool = False


@dataclass(frozen=True)
class Precision:
    """fp32, or bf16 autocast: weights, gradients and the optimizer's moments stay fp32.

    Attributes:
        name: "fp32" or "bf16".
        device: The type of the device, "cpu" or "cuda".
        reason: Why it was taken.
    """

    name: str
    device: str
    reason: str = "as the config says"

    def autocast(self) -> AbstractContextManager[Any]:
        """Surrounds a forward pass."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradients of `loss`."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(
        self, optimizer: torch.optim.Optimizer, max_norm: float, loss: torch.Tensor
    ) -> tuple[float, float, bool]:
        """Clips and steps, unless the gradient is not finite; clears the gradients.

        Loss and norm come to the host together: the only time in a step that it waits.

        Returns:
            Loss, norm before clipping, and whether the step was taken.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        total = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        value, norm = torch.stack((loss, total.to(loss.dtype))).tolist()
        taken = math.isfinite(norm)
        if taken:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value, norm, taken


def resolve_device(name: str) -> torch.device:
    """The device that `device` of a config means here.

    Raises:
        ConfigError: If a CUDA device is named that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        message = f"{name} is not there: {found or 'no'} CUDA device{'s' * (found != 1)} found"
        raise ConfigError(
            [Problem(key="device", message=message, remedy="use device: auto or cpu")]
        )
    return device


def device_name(device: torch.device) -> str:
    """What the device is called, such as "cuda:0 (NVIDIA H100 80GB HBM3)"; "cpu" for a CPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return "cpu" if torch.cuda.is_available() else "cpu (no CUDA device found)"


def resolve_precision(name: str, device: torch.device) -> Precision:
    """The precision that a config's `precision` means on `device`; auto: bf16 where it is fast."""
    if name != "auto":
        return Precision(name, device.type)
    fast = _fast_bf16(device)
    reason = f"for the {device.type} has {'' if fast else 'no '}bf16 instructions"
    return Precision("bf16" if fast else "fp32", device.type, reason)


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without these instructions a CPU emulates bf16, slower than fp32.
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
