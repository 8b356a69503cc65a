"""One process, one device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn


class Single:
    """One device: nothing to wrap, nothing to reduce."""

    rank = 0
    size = 1
    replicas = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module itself."""
        return module

    def window(self, *, last: bool) -> AbstractContextManager[Any]:
        """Nothing to hold back."""
        return nullcontext()

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The values themselves."""
        return values

    def broadcast(self, value: Any) -> Any:
        """The value itself."""
        return value


def build(options: None, device: torch.device) -> Single:
    """The strategy on `device`."""
    return Single(device)
