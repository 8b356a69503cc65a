"""The loop: batches in, optimizer steps, evaluations, the best weights out."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from nlpkit.cpu.adamw import use_sparse_gradients
from nlpkit.data.plan import mix
from nlpkit.errors import NonFiniteError
from nlpkit.events import CheckpointSaved, Evaluated, StepEnded
from nlpkit.training.optim import adamw, learning_rate, set_rate
from nlpkit.training.step import optimizer_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nlpkit.config.schema import Config
    from nlpkit.contracts import Strategy
    from nlpkit.data.loader import StepBatches, TrainingSteps
    from nlpkit.engine.precision import Precision, Step
    from nlpkit.nn import StepModule
    from nlpkit.training.evaluation import Evaluation


@dataclass(kw_only=True)
class Progress:
    """Where training stands.

    Attributes:
        step: The last step that ended, and `epoch` its epoch; the place in the plan.
        taken: Steps that moved the weights: the place in the schedule.
        evaluated: The last step after which validation was evaluated; -1: step 0 is to be, too.
        best: The best monitored value so far, of the model after step `best_step`.
        evaluations_since_best: How many there were since that value improved; where it is equal
            and the loss is lower, the model is the best one, and this counts on.
    """

    step: int = 0
    epoch: int = 0
    taken: int = 0
    evaluated: int = 0
    best: float | None = None
    best_step: int = 0
    evaluations_since_best: int = 0


@dataclass(kw_only=True)
class Account:
    """The honest numbers of a run (law 9), over all ranks and resumes."""

    samples: int = 0
    tokens: int = 0
    positions: int = 0
    skipped_steps: int = 0
    overflows: int = 0
    seconds_training: float = 0.0
    seconds_waiting_for_data: float = 0.0
    seconds_evaluating: float = 0.0
    seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Rates and shares, for result.json."""
        seconds = max(self.seconds_training, 1e-9)
        return {
            "samples_per_second": round(self.samples / seconds, 2),
            "tokens_per_second": round(self.tokens / seconds, 1),
            "padding_share": round(1 - self.tokens / self.positions, 4) if self.positions else 0.0,
            "waiting_for_data_share": round(self.seconds_waiting_for_data / seconds, 4),
            "skipped_steps": self.skipped_steps,
            "overflows": self.overflows,
            "training_seconds": round(self.seconds_training, 3),
            "evaluation_seconds": round(self.seconds_evaluating, 3),
        }


@dataclass(kw_only=True)
class Trainer:
    """One rank's training.

    Attributes:
        module: Model and objective on the strategy's device, not wrapped yet.
        steps: The batches of each optimizer step.
        total_steps: Optimizer steps of the whole run.
        validate: Evaluates the validation split, None once it is asked to stop; or None where there
            is no such split.
        monitor: Name of the value that selects the best model, and which way is better.
        save: Saves a checkpoint of this trainer; true: it holds the best model so far.
        saved: The checkpoints that have been written since it was last asked.
        tell: Told each event by the method of observers that takes it; logs the line of one that
            has one.
        stop: Polled once a step; true asks all ranks to stop after it.
        at: Told the number of each step as it begins.
        best: What validation came to at the best step.
        interval: The sum of the losses since the last line, and of how many steps.
    """

    config: Config
    module: StepModule
    strategy: Strategy
    precision: Precision
    steps: TrainingSteps
    total_steps: int
    validate: Callable[[], Evaluation | None] | None
    monitor: tuple[str, str]
    save: Callable[[Trainer, bool], None]
    saved: Callable[[], Iterable[CheckpointSaved]]
    tell: Callable[[str, Any], None]
    stop: Callable[[], bool]
    at: Callable[[int], None]
    progress: Progress = field(default_factory=Progress)
    account: Account = field(default_factory=Account)
    best: Evaluation | None = None
    interval: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def __post_init__(self) -> None:
        self.optimizer = adamw(self.module, self.config.train)
        self._wrapped = self.strategy.wrap(self.module)
        if self._wrapped is self.module and self.strategy.device.type == "cpu":
            use_sparse_gradients(self.module)
        self.module.train()

    def start_clock(self) -> None:
        """From here on time counts, after what an earlier part of the run took."""
        self.seconds_before = self.account.seconds
        self._begun = time.perf_counter() - self.seconds_before

    def tick(self) -> None:
        """Brings the account's seconds up to now."""
        self.account.seconds = time.perf_counter() - self._begun

    def run(self) -> bool:
        """Trains to the last step, or until validation stops improving.

        Returns:
            Whether it came to an end; false: it was asked to stop, and its state is saved.

        Raises:
            NonFiniteError: The gradient of a step is not finite, and `train.nonfinite` is "stop".
        """
        steps = self.steps.load(self.progress.step + 1, self.total_steps)
        going = not self._evaluation_is_due() or self._settle()  # it was stopped just before that
        while going and not self._ended():
            batches = self._next(steps)
            started = time.perf_counter()
            step = self._step(batches)
            self._count(batches, step)
            self._report(batches, step)
            self.account.seconds_training += time.perf_counter() - started
            going = self._settle(stopping=step.stopping)
        return going

    def _settle(self, *, stopping: bool = False) -> bool:
        """Evaluates and saves where that is due after a step; whether training goes on."""
        best = False
        if self._evaluation_is_due() and not stopping:
            stopping, best = self._evaluate()
        if self._falls_on(self.config.checkpoint.every) or best or stopping or self._ended():
            self.tick()
            self.save(self, best)
        for event in self.saved():
            self.tell("checkpoint_saved", event)
        return not stopping

    def _step(self, batches: StepBatches) -> Step:
        """One optimizer step, at the rate of its place in the schedule."""
        train = self.config.train
        self.at(batches.step)
        seed_step(self.config.seed, batches.step, self.strategy.rank)
        peak = train.learning_rate or 0.0
        rate = learning_rate(self.progress.taken, total=self.total_steps, peak=peak, train=train)
        set_rate(self.optimizer, rate)
        return optimizer_step(
            batches.batches,
            self._wrapped,
            self.strategy,
            self.precision,
            self.optimizer,
            train.max_grad_norm,
            stop=self.stop(),
        )

    def _falls_on(self, every: int | Literal["epoch"]) -> bool:
        """Whether something that is done so often is due after this step."""
        return self.progress.step % (self.steps.per_epoch if every == "epoch" else every) == 0

    def _ended(self) -> bool:
        patience = self.config.train.early_stopping
        return self.progress.step >= self.total_steps or (
            patience is not None and self.progress.evaluations_since_best >= patience
        )

    def _next(self, steps: Iterator[StepBatches]) -> StepBatches:
        """Waits for the next step: time that is part of training, and counted apart too."""
        started = time.perf_counter()
        batches = next(steps)
        waited = time.perf_counter() - started
        self.account.seconds_waiting_for_data += waited
        self.account.seconds_training += waited
        return batches

    def _count(self, batches: StepBatches, step: Step) -> None:
        self.progress.step, self.progress.epoch = batches.step, batches.epoch
        self.progress.taken += step.taken
        self.account.skipped_steps += not step.taken
        self.account.overflows += step.overflow
        self.account.samples += len(batches.ids)
        self.account.tokens += batches.tokens
        self.account.positions += batches.positions
        if step.taken:
            self.interval[0] += step.loss
            self.interval[1] += 1

    def _report(self, batches: StepBatches, step: Step) -> None:
        """Logs the step where a line is due, tells observers, stops at what is no number."""
        rate = self.optimizer.param_groups[0]["lr"]
        finite = math.isfinite(step.norm) and math.isfinite(step.loss)
        logged = None
        if (not finite and not step.overflow) or batches.step % self.config.train.log_every == 0:
            loss = self._interval_loss() if finite or step.overflow else step.loss
            logged = {
                "step": batches.step,
                "epoch": batches.epoch,
                "split": "train",
                "loss": loss,
                "grad_norm": step.norm,
                "learning_rate": rate,
            }
        self.tell(
            "step_ended",
            StepEnded(
                step=batches.step,
                epoch=batches.epoch,
                loss=step.loss,
                grad_norm=step.norm,
                learning_rate=rate,
                taken=step.taken,
                ids=batches.ids,
                logged=logged,
            ),
        )
        if not finite and not step.overflow and self.config.train.nonfinite == "stop":
            raise NonFiniteError(self._nonfinite(batches, step))

    def _interval_loss(self) -> float | None:
        """The mean loss of the steps that were taken since the last line; None for none."""
        (loss, steps), self.interval = self.interval, [0.0, 0.0]
        return loss / steps if steps else None

    def _nonfinite(self, batches: StepBatches, step: Step) -> str:
        samples = [self.steps.store.address(int(sample)) for sample in batches.ids[:8]]
        more = len(batches.ids) - len(samples)
        return (
            f"step {batches.step}: loss {step.loss}, gradient norm {step.norm}; samples: "
            f"{', '.join(samples)}{f' and {more} more' if more else ''}; "
            "lower train.learning_rate or check these rows; "
            "train.nonfinite: skip leaves such steps out"
        )

    def _evaluation_is_due(self) -> bool:
        step = self.progress.step
        pending = self.validate is not None and step > self.progress.evaluated
        return pending and (self._falls_on(self.config.eval.every) or step == self.total_steps)

    def _evaluate(self) -> tuple[bool, bool]:
        """Evaluates validation: whether it was asked to stop meanwhile, and whether it is best."""
        started = time.perf_counter()
        evaluation = self.validate() if self.validate else None
        self.account.seconds_evaluating += time.perf_counter() - started
        return evaluation is None, evaluation is not None and self._judge(evaluation)

    def _judge(self, evaluation: Evaluation) -> bool:
        """Takes a validation into account and reports it; whether it is the best so far."""
        progress = self.progress
        before = self.best.values if self.best else None
        improved = is_better(evaluation.values, before, self.monitor)
        best = is_better(evaluation.values, before, self.monitor, ("loss", "lower"))
        progress.evaluated = progress.step
        progress.evaluations_since_best = 0 if improved else progress.evaluations_since_best + 1
        if best:
            progress.best = evaluation.values[self.monitor[0]]
            progress.best_step, self.best = progress.step, evaluation
        where = {"step": progress.step, "epoch": progress.epoch}
        logged = {**where, "split": "validation", **evaluation.values}
        self.tell(
            "evaluated",
            Evaluated(**where, split="validation", logged=logged, best=best),
        )
        return best


def is_better(
    values: Mapping[str, float], best: Mapping[str, float] | None, *ways: tuple[str, str]
) -> bool:
    """Whether an evaluation beats the best so far: by the first of `ways`, by the next if equal.

    Args:
        values: Of the evaluation; what is no number only beats nothing.
        best: Of the best; None where there is none.
        ways: Names of values, each with the direction that is better.
    """
    if best is None:
        return True
    found, other = ([_standing(each[name], way) for name, way in ways] for each in (values, best))
    return found > other


def _standing(value: float, direction: str) -> float:
    """More is better."""
    if math.isnan(value):
        return -math.inf
    return value if direction == "higher" else -value


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds every generator from (seed, step, rank, device): randomness is a function, no state."""
    value = mix(seed, step, rank)
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value % 2**32)
    for index, generator in enumerate(torch.cuda.default_generators):  # none before it is used
        generator.manual_seed(mix(seed, step, rank, index))
