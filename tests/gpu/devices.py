"""Which devices a test runs on, and what a small run on one of them looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import nlpkit

FOUND = torch.cuda.device_count() if torch.cuda.is_available() else 0
ONE_GPU = pytest.mark.skipif(FOUND < 1, reason="no CUDA GPU here")
TWO_GPUS = pytest.mark.skipif(FOUND < 2, reason=f"needs 2 CUDA GPUs, {FOUND} found")
CUDA = pytest.param("cuda", marks=ONE_GPU)
EACH = ["cpu", CUDA]
STEPS = 24
OBSERVER = Path(__file__).parents[1] / "laws" / "ledger_observer.py"
DATA: dict[str, list[dict[str, Any]]] = {
    "train": [
        {"text": f"{word} number {n} {'of many ' * (n % 5)}", "label": label}
        for n in range(32)
        for word, label in (("where is my parcel", "track"), ("give my money back", "refund"))
    ],
    "validation": [{"text": "my parcel", "label": "track"}, {"text": "money", "label": "refund"}],
}


def config(device: str, precision: str, **changes: Any) -> dict[str, Any]:
    model = {"name": "transformer", "layers": 2, "hidden": 32, "heads": 2}
    rate = changes.pop("rate", 5e-3)
    base: dict[str, Any] = {
        "name": "small",
        "device": device,
        "precision": precision,
        "model": {**model, "dropout": changes.pop("dropout", 0.1)},
        "tokenizer": {"name": "wordpiece", "vocab_size": 100, "max_length": 24},
        "train": {"epochs": 3, "batch_size": 8, "log_every": 1, "learning_rate": rate},
        "checkpoint": {"every": 5},
        "observers": [],
    }
    return {**base, **changes}


def train(out: Path, device: str, precision: str, **changes: Any) -> nlpkit.Run:
    return nlpkit.train(config(device, precision, **changes), data=DATA, out=out)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "bundle" / "model.safetensors")


def difference(one: Path, other: Path) -> float:
    """|w − w'| / |w| over all weights of two runs: 0.0 only where every bit is the same."""
    first, second = (
        torch.cat([each.flatten() for each in weights(run).values()]).double()
        for run in (one, other)
    )
    return float((first - second).norm() / first.norm())
