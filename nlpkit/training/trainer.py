"""The loop: batches in, optimizer steps, evaluations, the best weights out."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlpkit.data.plan import mix
from nlpkit.errors import NonFiniteError
from nlpkit.events import Evaluated, StepEnded
from nlpkit.training.optim import adamw, learning_rate, set_rate
from nlpkit.training.step import optimizer_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nlpkit.config.schema import Config
    from nlpkit.contracts import Strategy
    from nlpkit.data.loader import Step as StepBatches
    from nlpkit.nn import StepModule
    from nlpkit.training.evaluation import Evaluation
    from nlpkit.training.precision import Precision, Step
    from nlpkit.training.watchers import Watchers


@dataclass(kw_only=True)
class Progress:
    """Where training stands; integers, and the best value so far."""

    step: int = 0
    epoch: int = 0
    taken: int = 0
    best: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0


@dataclass(kw_only=True)
class Account:
    """The honest numbers of a run (law 9)."""

    samples: int = 0
    tokens: int = 0
    positions: int = 0
    skipped_steps: int = 0
    seconds_training: float = 0.0
    seconds_waiting_for_data: float = 0.0
    seconds_evaluating: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Rates and shares, for result.json."""
        seconds = max(self.seconds_training, 1e-9)
        return {
            "samples_per_second": round(self.samples / seconds, 2),
            "tokens_per_second": round(self.tokens / seconds, 1),
            "padding_share": round(1 - self.tokens / self.positions, 4) if self.positions else 0.0,
            "waiting_for_data_share": round(self.seconds_waiting_for_data / seconds, 4),
            "skipped_steps": self.skipped_steps,
            "training_seconds": round(self.seconds_training, 3),
            "evaluation_seconds": round(self.seconds_evaluating, 3),
        }


@dataclass(kw_only=True)
class Trainer:
    """One rank's training.

    Attributes:
        module: Model and objective on the strategy's device, not wrapped yet.
        steps: The batches of each optimizer step, from the first one that is still to be done.
        steps_per_epoch: Optimizer steps in an epoch; `total_steps` in the whole run.
        validate: Evaluates the validation split, or None where there is none.
        monitor: Name of the value that selects the best model, and which way is better.
        save_best: Keeps the weights of the best model so far.
        address: The address of a training sample, for messages.
        log: Takes a line of metrics.jsonl.
        stop: Polled once a step; true asks all ranks to stop after it.
    """

    config: Config
    module: StepModule
    strategy: Strategy
    precision: Precision
    steps: Iterable[StepBatches]
    steps_per_epoch: int
    total_steps: int
    validate: Callable[[], Evaluation] | None
    monitor: tuple[str, str]
    save_best: Callable[[], None]
    address: Callable[[int], str]
    log: Callable[[Mapping[str, Any]], None]
    watchers: Watchers
    stop: Callable[[], bool] = lambda: False
    progress: Progress = field(default_factory=Progress)
    account: Account = field(default_factory=Account)
    best: Evaluation | None = None
    _interval: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def run(self) -> None:
        """Trains to the last step, or until validation stops improving.

        Raises:
            NonFiniteError: The gradient of a step is not finite, and `train.nonfinite` is "stop".
        """
        train = self.config.train
        peak = train.learning_rate or 0.0
        wrapped = self.strategy.wrap(self.module)
        optimizer = adamw(self.module, weight_decay=train.weight_decay)
        self.module.train()
        for batches in self._timed(self.steps):
            started = time.perf_counter()
            seed_step(self.config.seed, batches.step, self.strategy.rank)
            rate = learning_rate(
                self.progress.taken, total=self.total_steps, peak=peak, train=train
            )
            set_rate(optimizer, rate)
            step = optimizer_step(
                batches.batches,
                wrapped,
                self.strategy,
                self.precision,
                optimizer,
                train.max_grad_norm,
                stop=self.stop(),
            )
            self._count(batches, step)
            self._report(batches, step, rate)
            self.account.seconds_training += time.perf_counter() - started
            if self._evaluation_is_due() and self._evaluate():
                break
            if step.stopping:
                break
        own = np.array([self.account.tokens, self.account.positions])
        self.account.tokens, self.account.positions = map(int, self.strategy.sum(own))

    def _timed(self, steps: Iterable[StepBatches]) -> Iterator[StepBatches]:
        """The steps; time spent waiting for them is part of training, and counted apart too."""
        iterator = iter(steps)
        while True:
            started = time.perf_counter()
            batches = next(iterator, None)
            waited = time.perf_counter() - started
            self.account.seconds_waiting_for_data += waited
            self.account.seconds_training += waited
            if batches is None:
                return
            yield batches

    def _count(self, batches: StepBatches, step: Step) -> None:
        self.progress.step, self.progress.epoch = batches.step, batches.epoch
        self.progress.taken += step.taken
        self.account.skipped_steps += not step.taken
        self.account.samples += len(batches.ids)
        self.account.tokens += batches.tokens
        self.account.positions += batches.positions
        if step.taken:
            self._interval[0] += step.loss
            self._interval[1] += 1

    def _report(self, batches: StepBatches, step: Step, rate: float) -> None:
        """Logs the step where a line is due, tells observers, stops at what is no number."""
        finite = math.isfinite(step.norm) and math.isfinite(step.loss)
        logged = None
        if not finite or batches.step % self.config.train.log_every == 0:
            loss = self._interval_loss() if finite else step.loss
            logged = {
                "step": batches.step,
                "epoch": batches.epoch,
                "split": "train",
                "loss": loss,
                "grad_norm": step.norm,
                "learning_rate": rate,
            }
            self.log(logged)
        self.watchers.tell(
            "step_ended",
            StepEnded(
                step=batches.step,
                epoch=batches.epoch,
                loss=step.loss,
                grad_norm=step.norm,
                learning_rate=rate,
                taken=step.taken,
                logged=logged,
            ),
        )
        if not finite and self.config.train.nonfinite == "stop":
            raise NonFiniteError(self._nonfinite(batches, step))

    def _interval_loss(self) -> float:
        """The mean loss of the steps since the last line; each rank holds a share of it."""
        loss, steps = self.strategy.sum(np.array(self._interval))
        self._interval = [0.0, 0.0]
        return float(loss * self.strategy.size / steps) if steps else math.nan

    def _nonfinite(self, batches: StepBatches, step: Step) -> str:
        samples = [self.address(int(sample)) for sample in batches.ids[:8]]
        more = len(batches.ids) - len(samples)
        return (
            f"step {batches.step}: loss {step.loss}, gradient norm {step.norm}; samples: "
            f"{', '.join(samples)}{f' and {more} more' if more else ''}; "
            "lower train.learning_rate or check these rows; "
            "train.nonfinite: skip leaves such steps out"
        )

    def _evaluation_is_due(self) -> bool:
        every = self.config.eval.every
        period = self.steps_per_epoch if every == "epoch" else every
        return self.progress.step % period == 0 or self.progress.step == self.total_steps

    def _evaluate(self) -> bool:
        """Evaluates validation, keeps the best weights; true where early stopping ends it."""
        if self.validate is None:
            return False
        started = time.perf_counter()
        evaluation = self.validate()
        progress = self.progress
        value = evaluation.values[self.monitor[0]]
        best = is_better(value, progress.best, self.monitor[1])
        if best:
            progress.best, progress.best_step = value, progress.step
            progress.evaluations_since_best, self.best = 0, evaluation
            self.save_best()
        else:
            progress.evaluations_since_best += 1
        where = {"step": progress.step, "epoch": progress.epoch}
        logged = {**where, "split": "validation", **evaluation.values}
        self.log(logged)
        self.account.seconds_evaluating += time.perf_counter() - started
        self.watchers.tell(
            "evaluated",
            Evaluated(**where, split="validation", logged=logged, best=best),
        )
        patience = self.config.train.early_stopping
        return patience is not None and progress.evaluations_since_best >= patience


def is_better(value: float, best: float | None, direction: str) -> bool:
    """Whether `value` beats the best so far; what is no number only beats nothing."""
    if best is None or math.isnan(best):
        return True
    return value > best if direction == "higher" else value < best


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds every generator from (seed, step, rank): randomness is a function, not a state."""
    value = mix(seed, step, rank)
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value % 2**32)
