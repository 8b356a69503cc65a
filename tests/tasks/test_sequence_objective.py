"""The losses of `sequence` are sums: written out here, and independent of how a batch is split."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.objective import SequenceObjective

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -0.5]], dtype=torch.float64)
WEIGHT = torch.tensor([2.0, 0.5], dtype=torch.float64)


def total(logits, label, **options):
    objective = SequenceObjective(SequenceConfig(**options), {})
    return objective.total(logits, {"label": label, "weight": WEIGHT}, None)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_loss_is_the_weighted_sum_of_smoothed_cross_entropies(smoothing):
    label = torch.tensor([2, 0])
    target = functional.one_hot(label, 3) * (1 - smoothing) + smoothing / 3
    losses = -(target * LOGITS.log_softmax(-1)).sum(-1)
    assert torch.allclose(total(LOGITS, label, label_smoothing=smoothing), (losses * WEIGHT).sum())


def test_multilabel_loss_sums_over_labels():
    label = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.uint8)
    p = LOGITS.sigmoid()
    losses = -(label * p.log() + (1 - label) * (1 - p).log()).sum(-1)
    assert torch.allclose(total(LOGITS, label, target="multilabel"), (losses * WEIGHT).sum())


def test_regression_loss_is_the_weighted_sum_of_squares():
    value = torch.tensor([1.5, -1.0], dtype=torch.float64)
    loss = total(LOGITS[:, :1], value, target="regression")
    assert loss.item() == pytest.approx(2 * 1.0 + 0.5 * 4.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("target", ["class", "multilabel", "regression"])
def test_the_loss_has_the_logits_dtype(target, dtype):
    label = {
        "class": torch.tensor([2, 0]),
        "multilabel": torch.zeros(2, 3, dtype=torch.uint8),
        "regression": torch.zeros(2, dtype=torch.float64),
    }[target]
    logits = LOGITS[:, :1] if target == "regression" else LOGITS
    assert total(logits.to(dtype), label, target=target).dtype == dtype
