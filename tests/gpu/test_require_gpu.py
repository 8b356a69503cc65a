from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.devices import FOUND


@pytest.mark.skipif(FOUND > 0, reason="there is a CUDA GPU")
def test_a_gpu_that_is_required_and_missing_is_an_error():
    command = [sys.executable, "-m", "pytest", "tests/gpu", "--require-gpu", "--collect-only"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no CUDA GPU found" in done.stderr
