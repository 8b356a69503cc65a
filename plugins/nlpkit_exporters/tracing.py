"""What the formats of torch share: a quiet place to trace a model in, and a way to run the result.

Shape suffixes: B batch, T tokens.
"""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any, cast

import torch

from nlpkit.contracts import Graph
from nlpkit.errors import RunError, shorten
from nlpkit.nn import run_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from torch import Tensor, nn

    from nlpkit.contracts import Arrays, GraphSpec

_EXPECTED = (
    r"`torch\.jit\.\w+` is deprecated",
    "`is_gradient_checkpointing` is deprecated",  # transformers, when all attributes are read
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    "# The axis name: ",  # all inputs have the same two axes
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what torch and transformers are known to say while they trace or load a trace."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED:
                warnings.filterwarnings("ignore", message)
            # "might not generalise": the gate tries other shapes
            tracer = torch.jit.TracerWarning  # type: ignore[attr-defined]
            warnings.filterwarnings("ignore", category=tracer)
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def tracing(model: nn.Module, format: str) -> Iterator[None]:
    """Surrounds the export of a model.

    PyTorch's own attention layers take no short cut in it, since no format knows that operator.

    Raises:
        RunError: torch cannot write the model in this format.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # torch prints the graph where it gives up
            yield
    except Exception as error:
        cause = error.__cause__ or error
        reason = shorten(" ".join(f"{type(cause).__name__}: {cause}".split()), 300)
        raise RunError(
            f"{format}: torch cannot write the model {type(model).__name__} as this: {reason}"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def tensors(graph: Graph) -> tuple[Tensor, ...]:
    """The sample of a graph as its module takes it."""
    return tuple(torch.from_numpy(graph.sample[name]) for name in graph.spec.inputs)


def axes(graph: Graph, free: Callable[[str], Any]) -> tuple[Any, ...]:
    """What torch.export is told of each input: axes that have a name may have any size.

    Those that `forward` takes as one, by an asterisk, are one there too.
    """
    found = [
        {at: free(axis) for at, axis in enumerate(axes) if isinstance(axis, str)}
        for axes in graph.spec.inputs.values()
    ]
    kinds = [each.kind for each in inspect.signature(graph.module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(found)
    before = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*found[:before], tuple(found[before:]))


def runner(module: Callable[..., Any], spec: GraphSpec) -> Callable[[Arrays], list[np.ndarray]]:
    """A function of inputs by name that gives the outputs of a graph."""

    def run(inputs: Arrays) -> list[np.ndarray]:
        with torch.inference_mode():
            graph = Graph(module=cast("nn.Module", module), spec=spec)
            taken = {name: torch.from_numpy(inputs[name]) for name in spec.inputs}
            return [each.numpy() for each in run_graph(graph, taken).values()]

    return run


def the_graph(graphs: Mapping[str, Graph], format: str) -> Graph:
    """The one graph of a model. Raises RunError where it has several."""
    if len(graphs) > 1:
        several = f"takes models of one graph, not of {', '.join(graphs)}; onnx takes several"
        raise RunError(f"{format}: {several}")
    return graphs["model"]
