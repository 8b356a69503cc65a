"""Dropout on a CPU, where torch takes ten times as long for a mask.

A mask is 16 random bits an element, compared with the rate: a rate is right to 1 / 65,536. Bits are
those of SFC64 (Doty-Humphrey's, as numpy has it) with a seed that torch's generator gives, so
`torch.manual_seed` decides about them too.

May go when `torch.nn.Dropout` costs about as much as a copy, and attention.py is gone.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, with a faster mask on a CPU: random numbers of its own."""

    def forward(self, input: Tensor) -> Tensor:
        """Zeros with probability `p`, the rest times 1 / (1 - p), in training; any shape."""
        if not self.training or not is_fast(input, self.p):
            return super().forward(input)
        return cast("Tensor", _Dropout.apply(input, self.p))  # type: ignore[no-untyped-call]


def use_fast_dropout(module: nn.Module) -> None:
    """Puts `Dropout` in the place of every `torch.nn.Dropout` inside a module."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        masks = Masks(rate)
        bits = masks.bits(values.numel()).view(values.shape)
        ctx.scale = masks.scale
        ctx.save_for_backward(bits)
        return _dropped(values, bits, masks.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (bits,) = ctx.saved_tensors
        return _dropped(gradient, bits, ctx.scale), None


def _dropped(values: Tensor, bits: Tensor, scale: float) -> Tensor:
    kept = torch.empty_like(values, memory_format=torch.contiguous_format).copy_(bits)
    return kept.mul_(values).mul_(scale)


class Masks:
    """Masks, one after the other: 0 with the probability `rate`, else 1.

    Args:
        rate: Of what is dropped.
        seed: None: one that torch's generator gives.

    Attributes:
        scale: What keeps the mean, for the rate as it is rounded.
    """

    def __init__(self, rate: float, seed: int | None = None) -> None:
        self.seed = int(torch.empty((), dtype=torch.int64).random_()) if seed is None else seed
        self._generator = np.random.SFC64(self.seed)
        self._least = _dropped_levels(rate) - _LEVELS // 2
        self.scale = _LEVELS / (_LEVELS - _dropped_levels(rate))

    def bits(self, count: int) -> Tensor:
        """The next `count` elements, int16."""
        words = self._generator.random_raw(math.ceil(count / 4))
        return torch.from_numpy(words.view(np.int16))[:count].ge_(self._least)

    def fill(self, mask: Tensor) -> Tensor:
        """Fills `mask` with the next ones."""
        return mask.copy_(self.bits(mask.numel()).view(mask.shape))


def is_fast(values: Tensor, rate: float) -> bool:
    """Whether the masks here are for such values."""
    return values.device.type == "cpu" and 0 < _dropped_levels(rate) < _LEVELS


def _dropped_levels(rate: float) -> int:
    return round(rate * _LEVELS)
