"""What a checkpoint holds of training, and how it comes back: exactly what cannot be recomputed.

    model.safetensors       the bare model
    optimizer.safetensors   the optimizer's moments by parameter, and an objective's own tensors
    state.json              how far training came, the account, the best evaluation, the loss scale
    metrics.jsonl           its lines up to here

The schedule, the plan and every random number are functions of the step, so they are not stored.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import safetensors.torch
from torch import Tensor, nn

from nlpkit.bundle.format import WEIGHTS
from nlpkit.engine.weights import load_weights, weights_of, write_tensors
from nlpkit.training.evaluation import Evaluation
from nlpkit.training.trainer import Account, Progress, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HISTORY = "metrics.jsonl"
_OPTIMIZER = "optimizer.safetensors"
_STATE = "state.json"


def capture(trainer: Trainer, history: Path) -> dict[str, Callable[[Path], None]]:
    """The files of a checkpoint of this moment; another thread can write them later.

    Args:
        trainer: What is captured; its tensors are copied to host memory now.
        history: The run's metrics.jsonl.
    """
    best = trainer.best  # its details are found out again from its weights
    state = {
        "progress": asdict(trainer.progress),
        "account": asdict(trainer.account),
        "interval": trainer.interval,
        "best": {"values": best.values, "samples": best.samples} if best else None,
        "precision": trainer.precision.state(),
    }
    optimizer = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in _tensors(trainer)
    }
    size = history.stat().st_size if history.exists() else 0
    return {
        WEIGHTS: partial(write_tensors, weights_of(trainer.module.model)),
        _OPTIMIZER: partial(write_tensors, optimizer),
        _STATE: partial(_write, json.dumps(state, indent=1).encode()),
        HISTORY: partial(_copy, history, size),
    }


def restore(trainer: Trainer, folder: Path) -> None:
    """Puts a trainer where the verified checkpoint in `folder` was captured.

    Raises:
        BundleError: Its weights do not fit the model.
    """
    load_weights(folder / WEIGHTS, trainer.module.model)
    stored = safetensors.torch.load_file(folder / _OPTIMIZER)
    parameters = dict(trainer.module.named_parameters())
    for key, tensor in stored.items():
        name, _, moment = key.rpartition(":")
        if name in parameters:
            parameter = parameters[name]
            trainer.optimizer.state[parameter][moment] = tensor.to(parameter.device)
    if isinstance(trainer.module.objective, nn.Module):
        own = trainer.module.objective.state_dict()
        for name, tensor in own.items():
            tensor.copy_(stored[f"objective.{name}"])
    state = json.loads((folder / _STATE).read_bytes())
    trainer.progress = Progress(**state["progress"])
    trainer.account = Account(**state["account"])
    trainer.interval = state["interval"]
    trainer.best = Evaluation(**state["best"]) if state["best"] else None
    trainer.precision.load_state(state["precision"])


def _tensors(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    """What training holds beside the model, by name."""
    for name, parameter in trainer.module.named_parameters():
        for key, value in trainer.optimizer.state.get(parameter, {}).items():
            yield f"{name}:{key}", value
    if isinstance(trainer.module.objective, nn.Module):
        yield from trainer.module.objective.state_dict(prefix="objective.").items()


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _copy(source: Path, size: int, path: Path) -> None:
    if not size:
        path.touch()
        return
    with source.open("rb") as file:
        path.write_bytes(file.read(size))
