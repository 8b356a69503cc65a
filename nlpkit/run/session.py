"""Builds everything that a run needs from its folder and the token store, and sees it through."""

from __future__ import annotations

import json
import math
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from nlpkit.bundle.export import write_exports
from nlpkit.bundle.format import WEIGHTS, seal, write_description
from nlpkit.config.load import load_config
from nlpkit.config.resolve import build, build_objective, monitor_of
from nlpkit.data.encode import in_pieces
from nlpkit.data.loader import Batching, Loading, TrainingSteps, evaluation_batches
from nlpkit.data.plan import first_ids, mix
from nlpkit.data.prepare import Prepared, stores
from nlpkit.engine.precision import Precision, device_name, resolve_precision
from nlpkit.engine.torch import TorchEngine
from nlpkit.engine.weights import load_weights
from nlpkit.errors import NlpkitError, PluginError
from nlpkit.events import Evaluated, RunEnded, RunStarted
from nlpkit.files import as_json, replacing, write_json
from nlpkit.metrics import of_predictions
from nlpkit.nn import StepModule, graphs_of
from nlpkit.plugin.host import Host
from nlpkit.plugin.imports import named
from nlpkit.training import predictions
from nlpkit.training.diagnostics import check_placement
from nlpkit.training.evaluation import Evaluation, evaluate
from nlpkit.training.ranks import build_strategy
from nlpkit.training.saving import Saving
from nlpkit.training.state import HISTORY
from nlpkit.training.trainer import Progress, Trainer
from nlpkit.training.watchers import Watchers, build_observer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nlpkit.cli.render import Terminal
    from nlpkit.config.schema import Config
    from nlpkit.contracts import Strategy
    from nlpkit.plugin.records import StrategyRecord
    from nlpkit.training.predictions import Record


class Session:
    """The parts of one rank's run, built of what its folder and the token store hold.

    Args:
        run_dir: The run folder.
        terminal: Where it is said what it computes with.
        stop: Polled once a step and once a batch of an evaluation; true: save, and leave.
        at: Told the number of each step as it begins.

    Raises:
        InputError: The config, its plugins or the device are not usable here.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        terminal: Terminal,
        stop: Callable[[], bool] = lambda: False,
        at: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.run_dir, self.stop, self.at = run_dir, stop, at
        stored = load_config(run_dir / "config.yaml")
        self.host = Host.discover()
        self.host.bring(stored.plugins, run_dir)
        self.strategy: Strategy = build_strategy(stored, self.host)
        self.precision = self._precision(stored)
        self.config = stored.model_copy(update={"precision": self.precision.name})
        environment = json.loads((run_dir / "environment.json").read_text(encoding="utf-8"))
        if self.strategy.rank == 0:
            self._describe(stored, environment, terminal)
        tokens = Path(environment["tokens"])
        if not tokens.exists():  # another machine's: each has them in a cache of its own
            tokens = stores() / tokens.name
        self.prepared = Prepared.open(tokens, starts=environment["token_addresses"])
        self.codec = self.prepared.codec(self.config, self.host)
        self.saving = Saving(run_dir, self.config, self.prepared, self.strategy, terminal)
        self.module = self._module()
        observers = self.config.observers if self.strategy.rank == 0 else ()
        self._pace = predictions.Pace()
        self.watchers = Watchers(
            [(each.name, build_observer(each, self.host, terminal)) for each in observers]
        )

    def _precision(self, stored: Config) -> Precision:
        """What all ranks take."""
        device, name = self.strategy.device, stored.strategy.name
        record = cast("StrategyRecord", self.host.entry("strategy", name).record)
        found = resolve_precision(stored.precision, device, record.precisions)
        name = self.strategy.broadcast(found.name)  # the cards of other ranks may be others
        return found if name == found.name else Precision(name, device.type)

    def _describe(self, stored: Config, environment: Mapping[str, Any], terminal: Terminal) -> None:
        """Says and stores what only the process that has the device can tell."""
        name, precision = device_name(self.strategy.device), self.precision
        if "auto" in (stored.device, stored.precision):
            terminal.note(f"device: {name}; precision: {precision.name}, {precision.reason}")
        path = self.run_dir / "config.yaml"
        text = path.read_text(encoding="utf-8")
        resolved = f"\nprecision: {precision.name}\n"
        with replacing(path) as partial:  # other ranks read it now
            partial.write_text(text.replace("\nprecision: auto\n", resolved), encoding="utf-8")
        found = {"device": name, "ranks": self.strategy.size, "threads": torch.get_num_threads()}
        write_json(self.run_dir / "environment.json", {**environment, **found})

    def _module(self) -> StepModule:
        """Model and objective, on the device of the strategy."""
        config, codec, weights = self.config, self.codec, not self.saving.found()
        torch.manual_seed(mix(config.seed, 0, 0))
        model = build(
            config.model, "model", self.host, codec.head, codec.vocabulary, weights=weights
        )
        what = f'model "{config.model.name}"'
        if not isinstance(model, torch.nn.Module):
            raise PluginError(f"{what}: its target gave {type(model).__name__}")
        for note in getattr(model, "notes", ()) if self.strategy.rank == 0 else ():
            self.saving.terminal.note(note)
        objective = build_objective(config.task, self.host, self.prepared.schema)
        module = StepModule(model, objective, codec.head).to(self.strategy.device)
        check_placement(module, self.strategy.device, what)
        return module

    @property
    def bundle(self) -> Path:
        """Where the bundle grows: described at the start, given the best weights at the end."""
        return self.run_dir / "bundle"

    @property
    def steps(self) -> TrainingSteps:
        """The batches of each optimizer step."""
        train = self.config.train
        micro = train.micro_batch_size
        batching = Batching(
            seed=self.config.seed,
            batch_size=train.batch_size,
            micro_batch_size=micro and micro * self.strategy.replicas,
            bucketing=self.config.loader.bucketing,
        )
        return TrainingSteps(self.prepared.stores["train"], self.codec, batching, self._loading())

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        steps = self.steps.per_epoch * self.config.train.epochs
        return min(steps, self.config.train.max_steps or steps)

    def fit(self) -> bool:
        """Trains, evaluates the best model, and leaves bundle and result.json behind.

        It goes on from the newest good checkpoint of the run folder, if there is one.

        Returns:
            Whether it came to an end; false: it was asked to stop, and its state is saved.

        Raises:
            RunError: A format of `export` could not be written; it is trained all the same.
        """
        with self.saving.alone(), ExitStack() as last:
            trainer = self._trainer()
            ended: dict[str, Any] = {}
            last.callback(lambda: self._ended(ended, trainer))
            last.callback(self.saving.close)  # before that
            try:
                self.saving.resume(trainer)
                trainer.start_clock()
                self._started(trainer.progress.step)
                result = self._fitted(trainer)
                ended = {"stopped": trainer.progress.step} if result is None else result
                if not result:  # it was stopped, or the exports are another rank's
                    return result is not None
                return write_exports(self.run_dir, result, self.config.export, self.stop)
            except BaseException as error:
                if "metrics" not in ended:  # else it is trained, and says what was not exported
                    ended = {
                        "error": str(error) if isinstance(error, NlpkitError) else named(error)
                    }
                raise

    def _ended(self, ended: dict[str, Any], trainer: Trainer) -> None:
        """Tells observers, and says what went wrong with them, then too."""
        self.watchers.tell("run_ended", RunEnded(result=ended))
        if "observers" in ended:
            seconds = trainer.account.seconds - trainer.seconds_before
            ended["observers"] = self.watchers.report(seconds)
            write_json(self.run_dir / "result.json", as_json(ended))
            return
        for name, account in self.watchers.report(math.inf).items():
            if account["failures"]:
                note = f'warning: observer "{name}" failed: {account["first_error"]}'
                self.saving.terminal.note(note)

    def _fitted(self, trainer: Trainer) -> dict[str, Any] | None:
        """The result, on rank 0; None where it was asked to stop."""
        if not trainer.run():
            self.saving.wait()
            self.strategy.broadcast(None)  # nobody leaves before: it may end the others
            return None
        self.saving.write_best(trainer, self.bundle)
        evaluations = self._final_evaluations(trainer)
        if evaluations is None:
            return None
        if self.strategy.rank:
            return {}
        self.saving.close()
        seal(self.bundle)
        result: dict[str, Any] = as_json(self._result(trainer, evaluations))
        write_json(self.run_dir / "result.json", result)  # it is trained, whatever follows
        return result

    def tell(self, method: str, event: Any) -> None:
        """Adds the line of an event that has one to metrics.jsonl, and tells observers."""
        line = getattr(event, "logged", None)
        if line and self.strategy.rank == 0:
            with (self.run_dir / HISTORY).open("a", encoding="utf-8") as file:
                file.write(json.dumps(as_json(line)) + "\n")
        self.watchers.tell(method, event)

    def evaluate(
        self, split: str, record: Record | None = None, *, whole: bool = False
    ) -> Evaluation | None:
        """Evaluates a split with the weights as they are; None once it is asked to stop.

        Args:
            split: Its name.
            record: Takes what is predicted of each row.
            whole: Whether metrics of predictions see all rows, and not `eval.generated_rows`.
        """
        store, settings, metrics = (
            self.prepared.stores[split],
            self.config.eval,
            self.codec.metrics(),
        )
        batches = partial(
            evaluation_batches, store, self.codec, settings.batch_size, self._loading()
        )
        if written := bool(of_predictions(metrics)):
            record = self._pace.timed(
                record or partial(predictions.said, self.codec, self._engine())
            )
        some = None if whole else first_ids(len(store), settings.generated_rows, self.config.seed)
        return evaluate(
            self.module,
            batches(),
            metrics,
            strategy=self.strategy,
            precision=self.precision,
            stop=self.stop,
            record=record,
            predicted=batches(ids=some) if written else (),
        )

    def _engine(self) -> TorchEngine:
        """Runs the graphs of the model as it is."""
        model, device = self.module.model, self.strategy.device
        return TorchEngine(model, self.codec, device=device, precision=self.precision)

    def _trainer(self) -> Trainer:
        validate = partial(self.evaluate, "validation")
        return Trainer(
            config=self.config,
            module=self.module,
            strategy=self.strategy,
            precision=self.precision,
            steps=self.steps,
            total_steps=self.total_steps,
            validate=validate if "validation" in self.prepared.stores else None,
            monitor=monitor_of(self.config, self.codec),
            save=self.saving.save,
            saved=self.saving.saved,
            tell=self.tell,
            stop=self.stop,
            at=self.at,
            progress=Progress(evaluated=-1 if getattr(self.module.model, "trained", False) else 0),
        )

    def _loading(self) -> Loading:
        loader = self.config.loader
        return Loading(
            rank=self.strategy.rank,
            size=self.strategy.size,
            workers=loader.workers,
            prefetch=loader.prefetch,
            pin_memory=self.strategy.device.type == "cuda" and bool(loader.pin_memory),
        )

    def _started(self, step: int) -> None:
        if self.strategy.rank == 0:
            write_description(
                self.bundle,
                config=self.config,
                host=self.host,
                prepared=self.prepared,
                codec=self.codec,
                graphs=graphs_of(self.module.model, self.codec),
            )
        self.watchers.tell(
            "run_started",
            RunStarted(
                run_dir=self.run_dir,
                config=self.config.model_dump(mode="json", exclude={"checkpoint": {"backup"}}),
                epochs=self.config.train.epochs,
                total_steps=self.total_steps,
                steps_done=step,
                device=str(self.strategy.device),
            ),
        )

    def _final_evaluations(self, trainer: Trainer) -> dict[str, Evaluation] | None:
        """The best model's: its validation, and the test rows; None once it is asked to stop."""
        evaluations: dict[str, Evaluation] = {}
        held_out = [split for split in ("validation", "test") if split in self.prepared.stores]
        written = of_predictions(self.codec.metrics())  # of some rows alone until now
        if written and self.strategy.rank == 0:
            rows = sum(len(self.prepared.stores[split]) for split in held_out)
            self.saving.terminal.note(self._pace.told(rows, self.strategy.size))
        for split in held_out:
            # None: it was lost; without details: it was resumed
            best = trainer.best if split == "validation" and not written else None
            if best is None or best.details is None or self._predicts:
                found = self._evaluate_best(split, trainer)
                if found is None:
                    return None
                best = replace(best or found, details=found.details)
            evaluations[split] = best
        if "test" in evaluations:
            where = {"step": trainer.progress.step, "epoch": trainer.progress.epoch}
            line = {**where, "split": "test", **evaluations["test"].values}
            self.tell("evaluated", Evaluated(**where, split="test", logged=line, best=False))
        return evaluations

    def _evaluate_best(self, split: str, trainer: Trainer) -> Evaluation | None:
        started = time.perf_counter()
        load_weights(self.bundle / WEIGHTS, self.module.model)
        path, store = predictions.place(self.run_dir, split), self.prepared.stores[split]
        with ExitStack() as opened:
            record = self._predicts and opened.enter_context(
                predictions.written(path, self.codec, self._engine(), store, self.strategy)
            )
            found = self.evaluate(split, record or None, whole=True)
        trainer.account.seconds_evaluating += time.perf_counter() - started
        return found

    @property
    def _predicts(self) -> bool:
        """Whether held-out rows are predicted one by one: not where one may be several samples."""
        return self.config.eval.predictions and not in_pieces(self.codec)

    def _result(self, trainer: Trainer, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
        trainer.tick()
        progress, seconds = trainer.progress, trainer.account.seconds
        return {
            "metrics": {split: each.values for split, each in evaluations.items()},
            "details": {split: each.details for split, each in evaluations.items()},
            "samples": {split: each.samples for split, each in evaluations.items()},
            "steps": progress.step,
            "steps_planned": self.total_steps,
            "best_step": progress.step if progress.best is None else progress.best_step,
            "monitor": trainer.monitor[0],
            "device": str(self.strategy.device),
            "precision": self.precision.name,
            "seconds": round(seconds, 3),
            **trainer.account.summary(),
            "checkpoints": self.saving.report(),
            "data": self.prepared.report,
            "observers": self.watchers.report(seconds - trainer.seconds_before),
            "exports": {},
        }
