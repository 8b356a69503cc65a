"""Checks that a model keeps its contract. torch is imported when a check runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlpkit.contracts import WINDOWS, Vocabulary
from nlpkit.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from nlpkit.contracts import Batch, HeadSpec


def check_model(
    build: Callable[..., nn.Module],
    options: Any,
    batch: Batch,
    *,
    head: HeadSpec,
    tolerance: float = 1e-4,
) -> None:
    """Builds a model without weights and runs a batch through it, forward and backward.

    Args:
        build: The target of the model's record.
        options: Its options, completed by the record's `resolve` if it has one.
        batch: What `check_task` gave, or a task's `collate`; rows of different lengths.
        head: What the task wants.
        tolerance: How far a row's logits may be from those of the row without padding.

    Raises:
        PluginError: The logits have the wrong shape, a trainable parameter gets no gradient, or
            padding changes the logits of a row.
    """
    import torch

    from nlpkit.nn import call

    inputs = {
        name: torch.as_tensor(values) for name, values in batch.inputs.items() if name != WINDOWS
    }
    rows, tokens = inputs["input_ids"].shape
    vocabulary = Vocabulary(size=int(inputs["input_ids"].max()) + 1, max_length=tokens)
    model = build(options, head, vocabulary, weights=False)
    name = f"model {type(model).__name__}"
    logits = call(model, inputs)
    shape = (rows, head.size) if head.level == "sequence" else (rows, tokens, head.size)
    if tuple(logits.shape) != shape:
        raise PluginError(f"{name}: the logits have shape {tuple(logits.shape)}, not {shape}")
    torch.autograd.backward((logits * torch.randn_like(logits)).sum())
    parameters = [(key, each) for key, each in model.named_parameters() if each.requires_grad]
    if idle := [key for key, each in parameters if each.grad is None]:
        raise PluginError(f"{name}: no gradient reaches {', '.join(idle)}; DDP would stop there")
    with torch.no_grad():
        model.eval()
        together = call(model, inputs)
        for row, length in enumerate(inputs["attention_mask"].sum(dim=1).tolist()):
            alone = call(model, {key: each[row, None, :length] for key, each in inputs.items()})
            padded = (
                together[row, None] if head.level == "sequence" else together[row, None, :length]
            )
            difference = float((alone - padded).abs().max())
            if not difference <= tolerance:
                raise PluginError(
                    f"{name}: padding changes the logits of row {row} by {difference:.2g}; "
                    "is attention_mask used?"
                )
