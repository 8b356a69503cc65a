"""`python -m tests.gpu.deterministic_run OUT DEVICE PRECISION [STEP]` trains in OUT, or resumes.

With STEP the process kills itself shortly after that step. PyTorch is asked for deterministic
kernels: on a GPU that, the same card and the same versions are what "exact to the bit" means.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # before CUDA is used

import torch

import nlpkit
from tests.gpu.devices import DATA, OBSERVER, config

if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    out, device, precision, *kill_at = sys.argv[1:]
    ledger: dict[str, Any] = {"name": "ledger", "kill_at": int(kill_at[0]) if kill_at else None}
    nlpkit.train(
        config(device, precision, plugins=[str(OBSERVER)], observers=[ledger]),
        data=DATA,
        out=out,
        resume=Path(out).exists(),
    )
