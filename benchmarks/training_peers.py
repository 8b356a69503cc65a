"""The trainers beside nlpkit in benchmarks/training.py, each as its documentation shows it.

All begin with the same weights and take the same batch size, learning rate, schedule, weight decay,
clipping and epochs; `naive` and `bare` say what they do without.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
import warnings
from collections.abc import Iterable
from typing import Any, cast

import datasets
import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.sets import MINILM
from benchmarks.training_case import BATCH, CLIP, DECAY, RATE, WARM_UP, Case, Typical


class Meter:
    """Counts what a model is given, and looks at the clock after each step."""

    def __init__(self, model: nn.Module, skipped: int) -> None:
        self.skipped = skipped
        self.samples = self.tokens = self.positions = self.steps = 0
        self.started = self.ended = (time.perf_counter(), 0)
        self._hook = model.register_forward_pre_hook(self._given, with_kwargs=True)

    def _given(self, _model: Any, _args: Any, inputs: dict[str, Any]) -> None:
        if not self.samples and not self.skipped:
            self.started = (time.perf_counter(), 0)
        mask = inputs["attention_mask"]
        self.samples += len(mask)
        self.tokens += int(mask.sum())
        self.positions += mask.numel()

    def step_ended(self) -> None:
        """To be told after every optimizer step."""
        self.steps += 1
        self.ended = (time.perf_counter(), self.samples)
        if self.steps == self.skipped:
            self.started = self.ended

    def found(self) -> dict[str, Any]:
        """What the steps that count came to; the model is left alone from here on."""
        self._hook.remove()
        return {
            "steps": self.steps,
            "samples": self.ended[1] - self.started[1],
            "seconds": self.ended[0] - self.started[0],
            "ended": self.ended[0],
            "padding": 1 - self.tokens / self.positions,
        }


class Peer:
    """Rows, tokenizer and model as users of transformers have them."""

    def __init__(self, case: Case, folder: str) -> None:
        transformers.set_seed(case.seed)
        self.case, self.folder = case, folder
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
        self.labels = sorted(set(case.rows.read("train")[1]))
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(
            MINILM, num_labels=len(self.labels), dtype=torch.float32
        )
        self.collate = transformers.DataCollatorWithPadding(self.tokenizer)

    def tokenized(self, split: str, **options: Any) -> datasets.Dataset:
        """A split, tokenized ahead."""
        texts, labels = self.case.rows.read(split)
        ids = {label: index for index, label in enumerate(self.labels)}
        length = {"truncation": True, "max_length": self.case.rows.max_length, **options}
        return datasets.Dataset.from_dict(
            {"text": texts, "labels": [ids[label] for label in labels]}
        ).map(
            lambda rows: self.tokenizer(rows["text"], **length),
            batched=True,
            remove_columns=["text"],
            cache_file_name=f"{self.folder}/{split}.arrow",  # mapped, not held in memory
        )

    def finished(self, meter: Meter) -> dict[str, Any]:
        """What was measured, and how good the model is where whole epochs were trained."""
        found = meter.found()
        if self.case.steps is None:
            found["accuracy"] = accuracy(self.model, self.tokenized("test"), self.collate)
        return found


def accuracy(model: nn.Module, rows: datasets.Dataset, collate: Any) -> float:
    """The share of rows whose label is found, in fp32."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for batch in DataLoader(cast("Any", rows), batch_size=64, collate_fn=collate):
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(rows)


def trainer(case: Case, **options: Any) -> dict[str, Any]:
    """transformers' Trainer; without `options` its defaults, but for what all have in common."""
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(case, folder)
        meter = Meter(peer.model, case.skipped)
        found = _Trainer(
            model=peer.model,
            args=transformers.TrainingArguments(
                output_dir=folder,
                use_cpu=True,
                seed=case.seed,
                max_steps=case.steps or -1,
                num_train_epochs=case.epochs,
                per_device_train_batch_size=BATCH,
                learning_rate=RATE,
                weight_decay=DECAY,
                warmup_steps=WARM_UP,
                max_grad_norm=CLIP,
                bf16=case.precision == "bf16",
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                **options,
            ),
            train_dataset=peer.tokenized("train"),
            processing_class=peer.tokenizer,
            data_collator=peer.collate,
            callbacks=[_Ticking(meter)],
        )
        found.case = case
        found.train()
        return peer.finished(meter)


def best_trainer(case: Case) -> dict[str, Any]:
    """transformers' Trainer with what makes it fast: like lengths together, loader workers."""
    return trainer(case, train_sampling_strategy="group_by_length", dataloader_num_workers=2)


class _Trainer(transformers.Trainer):
    """Groups by length as it does, but gives a few steps batches from all of the epoch.

    Its own order has the longest of 50 batches first, and the steps that speed is measured by are
    fewer.
    """

    case: Case

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        found = super()._get_train_sampler(train_dataset)
        if self.case.steps is None or not hasattr(found, "lengths"):
            return found
        return Typical(found, self.case)


class _Ticking(transformers.TrainerCallback):
    """Tells the meter of steps."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.meter.step_ended()


def lightning(case: Case) -> dict[str, Any]:
    """Lightning's Trainer around a module as its documentation writes them."""
    import lightning as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning")

    class Module(pl.LightningModule):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, _index: int) -> torch.Tensor:
            return cast("torch.Tensor", self.model(**batch).loss)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=DECAY)
            total = int(self.trainer.estimated_stepping_batches)
            schedule = linear(optimizer, total)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    class Ticking(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            meter.step_ended()

    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(case, folder)
        meter = Meter(peer.model, case.skipped)
        rows: Any = peer.tokenized("train")
        pl.Trainer(
            accelerator="cpu",
            max_epochs=case.epochs,
            max_steps=case.steps or -1,
            precision="bf16-mixed" if case.precision == "bf16" else "32-true",
            gradient_clip_val=CLIP,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Ticking()],
        ).fit(
            Module(peer.model.train()),
            DataLoader(rows, batch_size=BATCH, shuffle=True, collate_fn=peer.collate),
        )
        return peer.finished(meter)


def linear(optimizer: torch.optim.Optimizer, total: int) -> Any:
    """Warm-up and then down to 0."""
    return transformers.get_linear_schedule_with_warmup(
        optimizer, math.ceil(WARM_UP * total), total
    )


def naive(case: Case) -> dict[str, Any]:
    """The loop of most tutorials: a sample at a time, padded to the full length; no schedule."""
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(case, folder)
        model = peer.model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        rows = peer.tokenized("train", padding="max_length").with_format("torch")
        meter = Meter(model, case.skipped)
        for _ in range(case.epochs):
            for batch in DataLoader(cast("Any", rows), batch_size=1, shuffle=True):
                with case.autocast():
                    loss = model(**batch).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                meter.step_ended()
                if meter.steps == case.steps:
                    return peer.finished(meter)
        return peer.finished(meter)


class Bare(nn.Module):
    """nlpkit's model as a user of transformers would write it: mean pooling, dropout, linear."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.bert = transformers.AutoModel.from_pretrained(
            MINILM, add_pooling_layer=False, dtype=torch.float32
        )
        self.dropout = nn.Dropout(self.bert.config.hidden_dropout_prob)
        self.linear = nn.Linear(self.bert.config.hidden_size, labels)

    def forward(self, attention_mask: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """The logits."""
        hidden = self.bert(attention_mask=attention_mask, **inputs).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(torch.float32)
        mean = (hidden.float() * mask).sum(dim=1) / mask.sum(dim=1)
        return cast("torch.Tensor", self.linear(self.dropout(mean)))


def bare(case: Case, batches: Iterable[Any], labels: int, total: int) -> dict[str, Any]:
    """A plain PyTorch loop over batches that nlpkit's loader makes.

    Args:
        case: Which run this is.
        batches: Of each optimizer step, with `inputs` and `targets`.
        labels: How many there are.
        total: How many steps.
    """
    transformers.set_seed(case.seed)
    model = Bare(labels).train()
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
    schedule = linear(optimizer, total)
    meter = Meter(model, case.skipped)
    for batch in batches:
        with case.autocast():
            logits = model(**batch.inputs)
            label = batch.targets["label"]
            loss = functional.cross_entropy(logits.float(), label, reduction="sum") / len(label)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        meter.step_ended()
    return meter.found()
