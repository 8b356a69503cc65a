"""What models share: the usual head, the step that a strategy wraps, how a batch reaches a model.

Shape suffixes: B batch, T tokens, H hidden.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from nlpkit.contracts import WINDOWS
from nlpkit.dropout import Dropout
from nlpkit.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlpkit.contracts import HeadSpec, Objective


class Head(nn.Module):
    """Hidden states to logits: pooling (for a sequence), dropout, one linear layer.

    Args:
        hidden: Width of the hidden states.
        spec: What the task wants: [batch, size], or [batch, tokens, size] for the level "token".
        pooling: "mean" averages the real tokens, "cls" takes the first one; tokens are not pooled.
        dropout: Share of the inputs of the linear layer that is dropped in training.
    """

    def __init__(
        self, hidden: int, spec: HeadSpec, *, pooling: Literal["mean", "cls"], dropout: float
    ) -> None:
        super().__init__()
        self.level = spec.level
        self.pooling = pooling
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(hidden, spec.size)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_BTH: Tensor, mask_BT: Tensor) -> Tensor:
        """Logits [batch, size] or [batch, tokens, size]; the mask is 1 (or true) at real tokens."""
        if self.level == "token":
            features = hidden_BTH
        elif self.pooling == "cls":
            features = hidden_BTH[:, 0]
        else:
            features = masked_mean(hidden_BTH, mask_BT)
        return cast("Tensor", self.linear(self.dropout(features)))


def masked_mean(hidden_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean over the real tokens, [batch, hidden]; added up in float32 at least."""
    wide_BTH = widened(hidden_BTH)
    mask_BT1 = mask_BT.unsqueeze(-1).to(wide_BTH.dtype)
    mean_BH = (wide_BTH * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1).clamp(min=1)
    return mean_BH.to(hidden_BTH.dtype)


def widened(values: Tensor) -> Tensor:
    """16-bit values as float32; float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


class StepModule(nn.Module):
    """A model with its objective: the one module that a strategy wraps.

    Args:
        model: Gives the logits.
        objective: Gives their loss.
        head: The shape that the logits must have.
    """

    def __init__(self, model: nn.Module, objective: Objective, head: HeadSpec) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.head = head

    def forward(self, inputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """The summed loss of a batch, of shape [1] so that replicas can be concatenated."""
        return self.objective.total(self.logits(inputs), targets).reshape(1)

    def logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The logits of a batch, one row a sample; 16-bit logits become float32.

        Raises:
            PluginError: They are no logits, or their shape is not what the task wants.
        """
        logits = call(self.model, inputs)
        batch_BT = next(each for name, each in inputs.items() if name != WINDOWS).shape
        wanted = (*batch_BT[: 1 if self.head.level == "sequence" else 2], self.head.size)
        if tuple(logits.shape) != wanted or not logits.is_floating_point():
            raise PluginError(
                f"model {type(self.model).__name__} gave {list(logits.shape)} of {logits.dtype}; "
                f"the task wants logits of shape {list(wanted)}"
            )
        return mean_of_windows(logits, inputs[WINDOWS]) if WINDOWS in inputs else logits


def mean_of_windows(logits: Tensor, windows: Tensor) -> Tensor:
    """The mean over each sample's windows: [windows, size] and [batch] give [batch, size].

    Args:
        logits: Sample after sample, float32 or float64.
        windows: How many of them each sample has.
    """
    # What is checked is the sum of the windows, for which a GPU would have to be waited for.
    unsafe = logits.device.type != "cpu"
    return torch.segment_reduce(logits, "mean", lengths=windows, axis=0, unsafe=unsafe)


def input_names(model: nn.Module) -> tuple[str, ...]:
    """What a model takes, in order: its attribute `inputs`, else the parameters of `forward`."""
    named = getattr(model, "inputs", None)
    if named is not None:
        return tuple(named)
    parameters = inspect.signature(model.forward).parameters.values()
    return tuple(each.name for each in parameters if each.kind == each.POSITIONAL_OR_KEYWORD)


def call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The logits of a batch; 16-bit logits become float32, float64 stays.

    Raises:
        PluginError: The model takes an input that the task does not give, or gives no tensor.
    """
    names = input_names(model)
    for name in names:
        if name not in inputs:
            raise PluginError(
                f'model {type(model).__name__} takes "{name}", which the task does not give '
                f"(it gives {', '.join(inputs)}); "
                "a model names what it takes in its attribute `inputs`"
            )
    logits = model(*(inputs[name] for name in names))
    if not isinstance(logits, Tensor):
        kind = type(logits).__name__
        raise PluginError(f"model {type(model).__name__} gave {kind}, not a tensor of logits")
    return widened(logits)
