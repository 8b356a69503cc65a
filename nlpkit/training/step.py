"""One optimizer step: the same gradient however the batch is split (law 1)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpkit.engine.precision import Precision, Step, widest
from nlpkit.training.diagnostics import check_gradients, explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from nlpkit.contracts import Batch, Strategy


def optimizer_step(
    batches: Sequence[Batch],
    module: nn.Module,
    strategy: Strategy,
    precision: Precision,
    optimizer: torch.optim.Optimizer,
    max_norm: float,
    *,
    stop: bool = False,
) -> Step:
    """Feeds this rank's micro-batches of one global batch and takes one optimizer step.

    Each micro-batch gives a SUM; every rank divides by the count of the whole global batch, which
    one small all-reduce tells before the first forward pass. DDP averages over ranks, hence
    `strategy.size`.
    """
    local = np.array([sum(batch.count for batch in batches), float(stop)])
    count, stopping = strategy.sum(local).tolist()
    if count == 0:  # of the whole batch, so every rank agrees
        return Step(loss=0.0, norm=0.0, taken=False, stopping=stopping > 0)
    loss = torch.zeros((), dtype=widest(strategy.device), device=strategy.device)
    for index, batch in enumerate(batches, 1):
        moved = to_device(batch, strategy.device)
        last = index == len(batches)
        with explained(strategy.device), torch.enable_grad(), strategy.window(last=last):
            with precision.autocast():
                total = module(moved.inputs, moved.targets, moved.rows).sum()
            scale = torch.full_like(total, batch.weight * strategy.size / count)
            # A loss that is no number makes the gradient none either, so that all ranks see it.
            precision.backward(total * scale.where(total.isfinite(), torch.nan))
        loss += batch.weight * total.detach()
    check_gradients(module)
    step = precision.step(optimizer, max_norm, loss / count)
    whole = float(strategy.sum(np.array([step.loss]))[0])  # of all ranks, so that they agree
    overflow = step.overflow and math.isfinite(whole)
    return step._replace(loss=whole, overflow=overflow, stopping=stopping > 0)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; from pinned memory the copy overlaps with work."""

    def moved(tensors: Any) -> dict[str, torch.Tensor]:
        return {name: fit(value).to(device, non_blocking=True) for name, value in tensors.items()}

    def fit(value: torch.Tensor) -> torch.Tensor:
        return value.to(widest(device)) if value.dtype == torch.float64 else value

    rows = None if batch.rows is None else batch.rows.to(device, non_blocking=True)
    return replace(batch, inputs=moved(batch.inputs), targets=moved(batch.targets), rows=rows)


def to_arrays(batch: Batch) -> Batch:
    """The batch with inputs, targets and rows as arrays; on the host they are the same memory."""
    inputs, targets = (
        {name: value.numpy() for name, value in tensors.items()}
        for tensors in (batch.inputs, batch.targets)
    )
    rows = None if batch.rows is None else batch.rows.numpy()
    return replace(batch, inputs=inputs, targets=targets, rows=rows)
