"""Runs an ONNX model with ONNX Runtime, on the CPU: numpy in and out, no torch."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from nlpkit.environment import threads_per_rank
from nlpkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

_ERRORS_ONLY = 3

_SPIN = "50"
"""Microseconds that a thread spins for more work before it sleeps: as fast as without a limit, and
two processes on the same cores are 1.5 times as fast as without one."""

_SLOW = ["SkipLayerNormFusion"]
"""An optimization that is none on a CPU: ONNX Runtime 1.32 takes six times as long for the fused
addition and layer norm as for the two, a tenth of a model's time, a sixth of a rounded one's."""


class OnnxSession:
    """One graph.

    It computes with the threads that a rank of training has: the usable cores, or OMP_NUM_THREADS.

    Args:
        path: The .onnx file.

    Raises:
        InputError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._session = path.absolute(), _opened(path)
        self.inputs = [each.name for each in self._session.get_inputs()]
        self.outputs = [each.name for each in self._session.get_outputs()]
        _SESSIONS.add(self)

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs, in the file's order."""
        if self._session is None:
            self._session = _opened(self._path)
        return list(self._session.run(None, {name: inputs[name] for name in self.inputs}))

    def leave_behind(self) -> None:
        """Forgets the session of the process that this one was forked from, and never ends it.

        Its threads did not come along; to run it, or to end it, is to wait for them for ever.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session = None


def _opened(path: Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path} needs {error.name}, which is not here: pip install 'nlpkit-sdk[runtime]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads_per_rank(1)
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN)
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOW
    )


_SESSIONS: WeakSet[OnnxSession] = WeakSet()


def _forked() -> None:
    for session in _SESSIONS:
        session.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
