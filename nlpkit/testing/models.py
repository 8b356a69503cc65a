"""Checks that a model keeps its contract. torch is imported when a check runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlpkit.contracts import Codec, Vocabulary
from nlpkit.testing.expect import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from nlpkit.contracts import Axes, Batch, HeadSpec


def check_model(
    build: Callable[..., nn.Module],
    options: Any,
    batch: Batch,
    *,
    head: HeadSpec,
    axes: Mapping[str, Axes] = Codec.inputs,
    tolerance: float = 1e-4,
) -> None:
    """Builds a model without weights and runs a batch through it, forward and backward.

    Args:
        build: The target of the model's record.
        options: Its options, completed by the record's `resolve` if it has one.
        batch: What `check_task` gave, or a codec's `collate`; rows of different lengths.
        head: What the task wants: the codec's.
        axes: The codec's `inputs`; those that are not named are of rows and tokens.
        tolerance: How far a row's logits may be from those of the row without padding.

    Raises:
        PluginError: The logits have the wrong shape, a trainable parameter gets no gradient, or
            padding changes the logits of a row.
    """
    import torch

    from nlpkit.nn import call, worked_out

    inputs = {name: torch.as_tensor(values) for name, values in batch.inputs.items()}
    axes = {name: axes.get(name, ("rows", "tokens")) for name in inputs}
    tokens = inputs["input_ids"].shape[1]
    vocabulary = Vocabulary(size=int(inputs["input_ids"].max()) + 1, max_length=tokens)
    model = build(options, head, vocabulary, weights=False)
    name = f"model {type(model).__name__}"
    logits = worked_out(call(model, inputs))
    shape = head.shape(inputs)
    expect(name, logits.shape == shape, f"the logits have shape {tuple(logits.shape)}, not {shape}")
    torch.autograd.backward((logits * torch.randn_like(logits)).sum())
    parameters = [(key, each) for key, each in model.named_parameters() if each.requires_grad]
    idle = [key for key, each in parameters if each.grad is None]
    expect(name, not idle, f"no gradient reaches {', '.join(idle)}; DDP would stop there")
    with torch.no_grad():
        model.eval()
        together = worked_out(call(model, inputs))
        for row, length in enumerate(inputs["attention_mask"].sum(dim=1).tolist()):
            own = {name: _own(each, axes[name], row, length) for name, each in inputs.items()}
            alone = worked_out(call(model, own))
            padded = _own(together, head.axes(axes), row, length)
            difference = float((alone - padded).abs().max())
            what = f"padding changes the logits of row {row} by {difference:.2g}"
            expect(name, difference <= tolerance, f"{what}; is attention_mask used?")


def _own(values: Tensor, axes: Axes, row: int, length: int) -> Tensor:
    """A row of [rows, …], without its padding."""
    return values[
        (slice(row, row + 1), *(slice(length if a == "tokens" else None) for a in axes[1:]))
    ]
