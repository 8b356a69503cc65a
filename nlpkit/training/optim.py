"""AdamW, and schedules counted in optimizer steps that were taken."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from nlpkit.cpu.adamw import AdamW
from nlpkit.errors import PluginError

if TYPE_CHECKING:
    from nlpkit.config.schema import TrainConfig

_TABLES = (nn.Embedding, nn.EmbeddingBag)


def adamw(model: nn.Module, train: TrainConfig) -> AdamW:
    """The optimizer of a model: matrices are decayed; tables, biases and norms are not.

    Args:
        model: On its device already; frozen parameters are left out.
        train: Says betas, epsilon, and the decoupled decay, times the learning rate per step.

    Raises:
        PluginError: There is nothing to train.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise PluginError("the model has nothing to train: all of its parameters are frozen")
    tables = {each.weight for each in model.modules() if isinstance(each, _TABLES)}
    decayed = [p for p in trainable if p.dim() > 1 and p not in tables]
    others = [p for p in trainable if p.dim() <= 1 or p in tables]
    groups = [
        {"params": decayed, "weight_decay": train.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    used = (group for group in groups if group["params"])
    return AdamW(used, betas=tuple(train.betas), eps=train.epsilon)


def learning_rate(taken: int, *, total: int, peak: float, train: TrainConfig) -> float:
    """The rate of the next step, after `taken` of `total` steps: warm-up, then the schedule.

    A function of one integer: resuming needs nothing else, and a skipped step does not advance it.
    "inverse_sqrt" is that of Vaswani et al. 2017 (section 5.3), whose highest rate is `peak` here.
    """
    warmup = train.warmup_steps
    if warmup is None:
        warmup = math.ceil(train.warmup_ratio * total)
    if taken < warmup:
        return peak * (taken + 1) / warmup
    if train.schedule == "constant":
        return peak
    if train.schedule == "inverse_sqrt":
        return peak * math.sqrt(max(1, warmup) / (taken + 1))
    left = (total - taken) / max(1, total - warmup)
    return peak * (left if train.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
