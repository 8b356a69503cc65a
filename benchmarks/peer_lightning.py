"""The experiment with Lightning's Trainer: `python -m benchmarks.peer_lightning OUT PORT`."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from types import SimpleNamespace
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, DistributedSampler

from benchmarks.peers import (
    EVALUATED,
    EVALUATION_BATCH,
    OBJECTIVES,
    Recorder,
    Window,
    environment_of_ranks,
    evaluated,
    loss_of,
    measure,
    own_model,
    peer_batch,
    rows,
)
from tests.laws.experiment import leave_ranks


class OwnModule(lightning.LightningModule):
    """As documented: steps return the mean loss of a batch and log with `sync_dist`."""

    def __init__(self, objective: str) -> None:
        super().__init__()
        self.model = own_model(objective)
        self.objective = objective

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The logits."""
        logits: torch.Tensor = self.model(input_ids, attention_mask)
        return logits

    def training_step(self, batch: dict[str, torch.Tensor], _index: int) -> torch.Tensor:
        """The mean loss."""
        logits = self(batch["input_ids"], batch["attention_mask"])
        return loss_of(self.objective, logits, batch["labels"])

    def validation_step(self, batch: dict[str, torch.Tensor], _index: int) -> None:
        """Logs the loss, the accuracy and the number of samples."""
        labels = batch["labels"]
        logits = self(batch["input_ids"], batch["attention_mask"])
        right = (logits.argmax(-1) == labels).float().mean()
        shared: dict[str, Any] = {"sync_dist": True, "batch_size": len(labels)}
        self.log("loss", loss_of(self.objective, logits, labels), **shared)
        self.log("accuracy", right, **shared)
        self.log("samples", float(len(labels)), reduce_fx="sum", sync_dist=True)

    def configure_optimizers(self) -> Recorder:
        """Records the gradients."""
        self.recorder = Recorder(self.parameters())
        return self.recorder


def trainer(ranks: int, folder: str, **options: Any) -> lightning.Trainer:
    """Quiet, on the CPU, over gloo; nothing else differs from the defaults."""
    return lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def fit(objective: str, window: Window) -> list[torch.Tensor]:
    """One epoch, the rows in order, so that the step is known."""
    module = OwnModule(objective)
    with tempfile.TemporaryDirectory() as folder:
        trainer(
            window.ranks,
            folder,
            max_epochs=1,
            accumulate_grad_batches=window.accumulation,
            use_distributed_sampler=False,
        ).fit(module, loader(objective, window))
    return module.recorder.gradients


def evaluate(ranks: int) -> dict[str, float]:
    """`Trainer.validate` of the 13 rows."""
    chosen: Any = rows("class", EVALUATED)
    batches = DataLoader(
        chosen,
        batch_size=EVALUATION_BATCH,
        collate_fn=lambda part: peer_batch("class", part),
    )
    with tempfile.TemporaryDirectory() as folder:
        found = trainer(ranks, folder).validate(OwnModule("class"), batches, verbose=False)[0]
    return {name: found[name] for name in ("samples", "loss", "accuracy")}


def loader(objective: str, window: Window) -> DataLoader[Any]:
    """The sampler that Lightning itself would put in, but for one thing: it does not shuffle."""
    chosen: Any = window.rows(objective)
    ranks = window.ranks
    return DataLoader(
        chosen,
        batch_size=window.micro_batch,
        sampler=DistributedSampler(
            chosen, num_replicas=ranks, rank=int(os.environ.get("RANK", 0)), shuffle=False
        ),
        collate_fn=lambda part: peer_batch(objective, part),
    )


def main(out: str, port: str) -> None:
    """Everything on this process's ranks."""
    rank, size = environment_of_ranks(port)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    module = OwnModule("class")
    found = {
        "lightning": measure(tuple(OBJECTIVES), size, OwnModule, fit),
        "evaluation": {"lightning": evaluated(evaluate(size), module, size)},
    }
    leave_ranks(SimpleNamespace(rank=rank, size=size), out, found)


if __name__ == "__main__":
    main(*sys.argv[1:])
