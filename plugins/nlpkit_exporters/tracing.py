"""What the formats of torch share: a quiet place to trace a model in, and a way to run the result.

Shape suffixes: B batch, T tokens.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

import torch

from nlpkit.bundle.format import DESCRIPTION
from nlpkit.errors import RunError, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn

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


def tensors(sample: Mapping[str, np.ndarray], inputs: Sequence[str]) -> tuple[Tensor, ...]:
    """The sample as the model takes it: int64 [batch, tokens], one for each of `inputs`."""
    return tuple(torch.from_numpy(sample[name]) for name in inputs)


def axes(batch_B: Any, tokens_T: Any, inputs: Sequence[str]) -> tuple[dict[int, Any], ...]:
    """What torch.export is told of each input: both of its axes may have any size."""
    return tuple({0: batch_B, 1: tokens_T} for _ in inputs)


def runner(
    module: Callable[..., Tensor], folder: Path
) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """A function of inputs by name that gives float32 logits.

    Args:
        module: Takes the inputs in the model's order.
        folder: The export, whose description has that order.
    """
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    names = description["model"]["inputs"]

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            values: np.ndarray = module(*tensors(inputs, names)).float().numpy()
        return values

    return run
