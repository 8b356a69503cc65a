"""fp32, or 16-bit autocast over fp32 weights; the one place that goes backward, clips and steps."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from nlpkit.config.resolve import FP16_ON_CPU
from nlpkit.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Step(NamedTuple):
    """What one optimizer step came to, on the host.

    Attributes:
        loss: The mean loss of the whole batch, over all ranks.
        norm: The gradient's norm over all parameters, before clipping.
        taken: Whether the weights moved.
        stopping: Whether some rank asked to stop.
        overflow: Whether fp16 could not hold the scaled gradient, so that its scale was lowered:
            such a step is left out, and no error.
    """

    loss: float
    norm: float
    taken: bool
    stopping: bool = False
    overflow: bool = False


@dataclass
class Precision:
    """fp32, or autocast to bf16 or fp16: weights, gradients and the optimizer's moments stay fp32.

    fp16 has a small range: the loss is scaled up, so that small gradients do not become 0
    (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2).

    Attributes:
        name: "fp32", "bf16" or "fp16".
        device: The type of the device, "cpu" or "cuda".
        reason: Why it was taken.
    """

    name: str
    device: str
    reason: str = "as the config says"
    _scaler: torch.amp.GradScaler = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._scaler = torch.amp.GradScaler(self.device, enabled=self.name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """Surrounds a forward pass."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device, dtype=_TYPES[self.name])

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradients of `loss`, scaled."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, max_norm: float, loss: torch.Tensor) -> Step:
        """Unscales, clips and steps, unless the gradient is not finite; clears the gradients.

        Loss, norm and scale come to the host together: the only time in a step that is taken that
        it waits.
        """
        self._scaler.unscale_(optimizer)
        gradients = [_dense(p) for group in optimizer.param_groups for p in group["params"]]
        total = torch.nn.utils.get_total_norm([each for each in gradients if each is not None])
        scale = self._scaler.scale(torch.ones_like(loss))
        value, norm, before = torch.stack((loss, total.to(loss.dtype), scale)).tolist()
        taken = math.isfinite(norm)
        if taken:
            # Fused optimizers divide by this as they read a gradient; what they leave is cleared.
            clipping = min(max(1.0, (norm + 1e-6) / max_norm), _LARGEST)
            scale = torch.full((), clipping, dtype=torch.float32, device=total.device)
            optimizer.grad_scale = scale  # type: ignore[attr-defined]
            optimizer.step()  # the scaler's own would wait again for what is known here
        self._scaler.update()
        optimizer.zero_grad(set_to_none=True)
        # Below 1 the gradient itself is what fp16 cannot hold.
        overflow = not taken and 1 <= self._scaler.get_scale() < before and math.isfinite(value)
        return Step(loss=value, norm=norm, taken=taken, overflow=overflow)

    def state(self) -> dict[str, Any]:
        """What the next step depends on, as plain JSON: {} but for fp16."""
        return self._scaler.state_dict()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on as where `state` was taken."""
        self._scaler.load_state_dict(dict(state))


def _dense(parameter: torch.Tensor) -> torch.Tensor | None:
    """Its gradient; of a sparse one, which is coalesced, the values."""
    if parameter.grad is None or not parameter.grad.is_sparse:
        return parameter.grad
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad.values()


_LARGEST = torch.finfo(torch.float32).max
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """The device that `device` of a config means here.

    Raises:
        ConfigError: If a device is named that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if name == "mps" and not torch.backends.mps.is_available():
        message = "it is the GPU of a Mac, under a torch that was built for it"
    elif device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        message = f"{found or 'no'} CUDA device{'s' * (found != 1)} found"
    else:
        return device
    problem, remedy = f"{name} is not there: {message}", "use device: auto or cpu"
    raise ConfigError([Problem(key="device", message=problem, remedy=remedy)])


def widest(device: torch.device) -> torch.dtype:
    """What sums are kept in: float64, but on the GPU of a Mac, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def device_name(device: torch.device) -> str:
    """What the device is called, such as "cuda:0 (NVIDIA H100 80GB HBM3)"; "cpu" for a CPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return "cpu" if torch.cuda.is_available() else "cpu (no CUDA device found)"


def resolve_precision(
    name: str, device: torch.device, accepted: Sequence[str] = ("fp32", "bf16", "fp16")
) -> Precision:
    """The precision that a config's `precision` means on `device`.

    Args:
        name: "auto" takes bf16 where it is fast, else fp16 on CUDA, else fp32, if accepted.
        device: Where the forward pass runs.
        accepted: What the strategy takes.

    Raises:
        ConfigError: fp16 on a CPU.
    """
    reason = "as the config says"
    if name == "auto":
        fast, cuda = _fast_bf16(device), device.type == "cuda"
        order = ["bf16"] * fast + ["fp16"] * cuda + ["fp32", "bf16", "fp16"]
        name = next(each for each in order if each in accepted)
        reason = f"for the {device.type} has {'' if fast else 'no '}bf16 instructions"
        if len(accepted) == 1:
            reason = "for the strategy takes no other"
        elif name != order[0]:
            reason += f", but the strategy takes {' or '.join(accepted)}"
        if name == "bf16" and not fast:
            reason = f"emulated, {reason}"
    if (name, device.type) == ("fp16", "cpu"):
        message, remedy = FP16_ON_CPU
        raise ConfigError([Problem(key="precision", message=message, remedy=remedy)])
    return Precision(name, device.type, reason)


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without these instructions a CPU emulates bf16, slower than fp32.
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
