"""Runs an ONNX model with ONNX Runtime, on the CPU: numpy in and out, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlpkit.environment import threads_per_rank
from nlpkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

_ERRORS_ONLY = 3

_SLOW = ["SkipLayerNormFusion"]
"""An optimization that is none on a CPU: ONNX Runtime 1.32 takes six times as long for the fused
addition and layer norm as for the two, a tenth of a model's time, a sixth of a rounded one's."""


class OnnxEngine:
    """Implements `nlpkit.bundle.predict.Engine`.

    It computes with the threads that a rank of training has: the usable cores, or OMP_NUM_THREADS.

    Args:
        path: The .onnx file.

    Raises:
        InputError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise InputError(
                f"{path} needs {error.name}, which is not here: pip install 'nlpkit-sdk[runtime]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads_per_rank(1)
        options.log_severity_level = _ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOW
        )
        self._inputs = [each.name for each in self._session.get_inputs()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits of a batch, float32: [batch, size], or [batch, tokens, size] for a token task."""
        (logits,) = self._session.run(None, {name: inputs[name] for name in self._inputs})
        values: np.ndarray = logits
        return values
