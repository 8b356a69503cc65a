"""The experiment with transformers' Trainer: `python -m benchmarks.peer_transformers OUT PORT`."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import nn

from benchmarks.peers import (
    EVALUATED,
    EVALUATION_BATCH,
    OBJECTIVES,
    Recorder,
    Window,
    bert_model,
    environment_of_ranks,
    evaluated,
    loss_of,
    measure,
    own_model,
    peer_batch,
    rows,
)
from tests.laws.experiment import leave_ranks


class OwnModule(nn.Module):
    """A user's module: it returns its mean loss, and takes no further keywords."""

    def __init__(self, objective: str) -> None:
        super().__init__()
        self.model = own_model(objective)
        self.objective = objective

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> Any:
        """Loss (with labels) and logits."""
        logits = self.model(input_ids, attention_mask)
        if labels is None:
            return {"logits": logits}
        return {"loss": loss_of(self.objective, logits, labels), "logits": logits}


class WeightedTrainer(transformers.Trainer):
    """The documented way to a loss of one's own: `compute_loss` is overridden, and the Trainer
    told that this is a mean, for it to divide by the accumulation."""

    loss_is_scaled_for_ga = False

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean of the batch with class weights."""
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = loss_of("class weights", outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


def summed(objective: str) -> Any:
    """A `compute_loss_func` as documented: the sum over the batch / `num_items_in_batch`."""

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        return loss_of(objective, outputs["logits"], labels, "sum") / num_items_in_batch

    return loss


def per_label(objective: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The same over a whole batch: it divides by the labels, also where these have weights."""
    return loss_of(objective, logits, labels, "sum") / labels.ne(-100).sum()


def fit(objective: str, window: Window, *, model: Any, options: Any) -> list[torch.Tensor]:
    """One epoch; clipping is off, and the rows come in order, so that the step is known."""
    own = model(objective)
    recorder = Recorder(own.parameters())
    kind = WeightedTrainer if options == "override" else transformers.Trainer
    more = {"compute_loss_func": summed(objective)} if options == "summed" else {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = kind(
            model=own,
            args=arguments(
                folder,
                num_train_epochs=1,
                per_device_train_batch_size=window.micro_batch,
                gradient_accumulation_steps=window.accumulation,
                max_grad_norm=0.0,
                train_sampling_strategy="sequential",
            ),
            train_dataset=window.rows(objective),
            data_collator=lambda chosen: peer_batch(objective, chosen),
            optimizers=(recorder, None),
            **more,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return recorder.gradients


def evaluate(model: nn.Module) -> dict[str, float]:
    """`Trainer.evaluate` of the 13 rows."""

    def metrics(prediction: Any) -> dict[str, float]:
        right = prediction.predictions.argmax(-1) == prediction.label_ids
        return {"accuracy": float(right.mean()), "samples": len(right)}

    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model,
            args=arguments(folder, per_device_eval_batch_size=EVALUATION_BATCH),
            eval_dataset=rows("class", EVALUATED),
            data_collator=lambda chosen: peer_batch("class", chosen),
            compute_metrics=metrics,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        found = trainer.evaluate()
    return {name: found[f"eval_{name}"] for name in ("samples", "loss", "accuracy")}


def arguments(folder: str, **options: Any) -> transformers.TrainingArguments:
    """Quiet, on the CPU, over gloo; nothing else differs from the defaults."""
    return transformers.TrainingArguments(
        output_dir=folder,
        use_cpu=True,
        ddp_backend="gloo" if "RANK" in os.environ else None,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        **options,
    )


def main(out: str, port: str) -> None:
    """All variants on this process's ranks."""
    rank, size = environment_of_ranks(port)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    names = tuple(OBJECTIVES)
    unweighted = tuple(name for name in names if name != "class weights")

    def run(chosen: tuple[str, ...], model: Any, options: Any = None, loss: Any = loss_of) -> Any:
        own_fit = partial(fit, model=model, options=options)
        return measure(chosen, size, model, own_fit, loss)

    found = {
        "transformers, BERT": run(unweighted, bert_model)
        + run(("class weights",), bert_model, "override"),
        "transformers, own module": run(names, OwnModule),
        "transformers, compute_loss_func": run(names, OwnModule, "summed", per_label),
        "evaluation": {
            "transformers, BERT": evaluated(
                evaluate(bert_model("class")), bert_model("class"), size
            ),
            "transformers, own module": evaluated(
                evaluate(OwnModule("class")), OwnModule("class"), size
            ),
        },
    }
    leave_ranks(SimpleNamespace(rank=rank, size=size), out, found)


if __name__ == "__main__":
    main(*sys.argv[1:])
