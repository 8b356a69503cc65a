"""What models share: heads, the step that a strategy wraps, how a batch reaches a model.

Shape suffixes: B batch, T tokens, H hidden.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from nlpkit.contracts import Graph, GraphSpec
from nlpkit.cpu.dropout import Dropout
from nlpkit.errors import PluginError, shorten
from nlpkit.projection import Projection as Projection
from nlpkit.projection import place_scores as place_scores
from nlpkit.projection import summed_cross_entropy as summed_cross_entropy
from nlpkit.projection import worked_out as worked_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nlpkit.contracts import Codec, HeadSpec, Objective


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


def take_labels(
    layer: nn.Linear, stored: Mapping[str, Tensor], spec: HeadSpec, labels: Sequence[str]
) -> str:
    """Gives a layer of logits the rows of a trained one, by the names of the labels.

    Args:
        layer: Gives a logit for each of the head's labels, or one number, which has no name.
        stored: The trained one's "weight", [rows, hidden], and "bias"; else nothing fits.
        spec: What the head gives.
        labels: What the trained one's rows are called; [] for no names.

    Returns:
        What is to be said of it; "": no row is this layer's, which stays as it is.
    """
    places = {at: labels.index(each) for at, each in enumerate(spec.labels) if each in labels}
    weight, bias = (stored.get(name, torch.empty(0)) for name in ("weight", "bias"))
    known = len(labels) or 1
    if spec.size == known == 1 and not spec.labels:  # a number, whatever it is called
        places = {0: 0}
    if not places or weight.shape != (known, layer.in_features) or bias.shape != (known,):
        return ""
    for at, place in places.items():
        layer.weight.data[at], layer.bias.data[at] = weight[place], bias[place]
    beside = {
        "new in it": [label for label in spec.labels if label not in labels],
        "left behind": [label for label in labels if spec.labels and label not in spec.labels],
    }
    more = "".join(f"; {what}: {shorten(', '.join(each))}" for what, each in beside.items() if each)
    return f"its head is used{more}"


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

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        rows: Tensor | None = None,
    ) -> Tensor:
        """The summed loss of a batch, of shape [1] so that replicas can be concatenated."""
        return self.objective.total(self.logits(inputs), targets, rows).reshape(1)

    def logits(self, inputs: Mapping[str, Tensor]) -> Any:
        """The logits of a batch, or a Projection; 16-bit logits become float32.

        Raises:
            PluginError: They are no logits, or their shape is not what the task wants.
        """
        logits = call(self.model, inputs)
        wanted = self.head.shape(inputs)
        kind = (logits.hidden if isinstance(logits, Projection) else logits).dtype
        if tuple(logits.shape) != wanted or not kind.is_floating_point:
            raise PluginError(
                f"model {type(self.model).__name__} gave {list(logits.shape)} of {kind}; "
                f"the task wants logits of shape {list(wanted)}"
            )
        return logits


def input_names(model: nn.Module) -> tuple[str, ...]:
    """What a model takes, in order: its attribute `inputs`, else the parameters of `forward`."""
    named = getattr(model, "inputs", None)
    if named is not None:
        return tuple(named)
    return _parameters(model, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def optional_names(model: nn.Module) -> tuple[str, ...]:
    """What a model takes where a batch has it, but in no graph: by keyword only."""
    return _parameters(model, inspect.Parameter.KEYWORD_ONLY)


def _parameters(model: nn.Module, kind: Any) -> tuple[str, ...]:
    found = inspect.signature(model.forward).parameters.values()
    return tuple(each.name for each in found if each.kind == kind)


def graphs_of(model: nn.Module, codec: Codec) -> dict[str, Graph]:
    """The graphs of a model by name: what its method `graphs` gives, or itself as "model".

    A projection is worked out in it.
    """
    if named := getattr(model, "graphs", None):
        return dict(named())
    inputs = {name: codec.inputs.get(name, ("rows", "tokens")) for name in input_names(model)}
    spec = GraphSpec(inputs=inputs, outputs={"logits": codec.head.axes(codec.inputs)})
    module = WorkedOut(model) if codec.head.level in ("vocabulary", "next", "target") else model
    return {"model": Graph(module=module, spec=spec)}


class WorkedOut(nn.Module):
    """A model whose projection is worked out: it gives logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False  # graphs are run in evaluation mode, and so is the model in it

    def forward(self, *inputs: Tensor) -> Tensor:
        """The logits for the inputs that the model names."""
        return worked_out(self.model(*inputs))


def run_graph(graph: Graph, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of a graph by name; 16-bit ones become float32.

    Raises:
        PluginError: An input is missing, or the outputs are not those that it names.
    """
    found = graph.module(*_taken(type(graph.module).__name__, graph.spec.inputs, inputs))
    outputs = (found,) if isinstance(found, Tensor) else found
    names = graph.spec.outputs
    if not isinstance(outputs, tuple | list) or len(outputs) != len(names):
        raise PluginError(f"model {type(graph.module).__name__} does not give {', '.join(names)}")
    return {name: widened(each) for name, each in zip(names, outputs, strict=True)}


def _taken(name: str, wanted: Iterable[str], inputs: Mapping[str, Tensor]) -> Iterator[Tensor]:
    for each in wanted:
        if each not in inputs:
            raise PluginError(
                f'model {name} takes "{each}", which the task does not give (it gives '
                f"{', '.join(inputs)}); a model names what it takes in its attribute `inputs`"
            )
        yield inputs[each]


def call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor | Projection:
    """The logits of a batch, or a Projection; 16-bit logits become float32, float64 stays.

    Inputs that are optional are given by name, where the batch has them.

    Raises:
        PluginError: The model takes an input that the task does not give, or gives no tensor.
    """
    optional = {name: inputs[name] for name in optional_names(model) if name in inputs}
    logits = model(*_taken(type(model).__name__, input_names(model), inputs), **optional)
    if isinstance(logits, Projection):
        return logits
    if not isinstance(logits, Tensor):
        kind = type(logits).__name__
        raise PluginError(f"model {type(model).__name__} gave {kind}, not a tensor of logits")
    return widened(logits)
