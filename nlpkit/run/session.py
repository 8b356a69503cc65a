"""Builds everything that a run needs from its folder and the token store, and sees it through."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from nlpkit.bundle.export import write_exports
from nlpkit.bundle.format import WEIGHTS, seal, write_description
from nlpkit.config.load import load_config
from nlpkit.config.resolve import build, build_objective, monitor_of
from nlpkit.data.loader import Batching, Loading, TrainingSteps, evaluation_batches
from nlpkit.data.plan import mix
from nlpkit.data.prepare import Prepared, stores
from nlpkit.engine.precision import Precision, device_name, resolve_precision
from nlpkit.engine.torch import TorchEngine
from nlpkit.engine.weights import load_weights
from nlpkit.environment import versions
from nlpkit.errors import NlpkitError, PluginError
from nlpkit.events import Evaluated, RunEnded, RunStarted
from nlpkit.files import as_json, replacing, write_json
from nlpkit.nn import StepModule, graphs_of
from nlpkit.plugin.host import Host
from nlpkit.plugin.imports import named
from nlpkit.training import predictions
from nlpkit.training.diagnostics import check_placement
from nlpkit.training.evaluation import Evaluation, evaluate
from nlpkit.training.ranks import build_strategy
from nlpkit.training.saving import Saving
from nlpkit.training.state import HISTORY
from nlpkit.training.trainer import Trainer
from nlpkit.training.watchers import Watchers, build_observer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nlpkit.cli.render import Terminal
    from nlpkit.config.schema import Config
    from nlpkit.contracts import Codec, Graph, Strategy
    from nlpkit.plugin.records import StrategyRecord
    from nlpkit.training.predictions import Record


@dataclass(kw_only=True)
class Session:
    """The parts of one rank's run.

    Attributes:
        run_dir: The run folder.
        config: As resolved and stored in it.
        prepared: Token store, schema and tokenizer.
        module: Model and objective, on the device of the strategy.
        stop: Polled once a step and once a batch of an evaluation; true: save, and leave.
        at: Told the number of each step as it begins.
    """

    run_dir: Path
    config: Config
    host: Host
    prepared: Prepared
    codec: Codec
    module: StepModule
    strategy: Strategy
    precision: Precision
    watchers: Watchers
    saving: Saving
    stop: Callable[[], bool]
    at: Callable[[int], None]

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
        with self.saving.alone():
            trainer = self._trainer()
            ended: dict[str, Any] = {}
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
            finally:
                try:
                    self.saving.close()
                finally:
                    self._ended(ended, trainer)

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

    def evaluate(self, split: str, record: Record | None = None) -> Evaluation | None:
        """Evaluates a split with the weights as they are; None once it is asked to stop."""
        return evaluate(
            self.module,
            evaluation_batches(
                self.prepared.stores[split],
                self.codec,
                self.config.eval.batch_size,
                self._loading(),
            ),
            self.codec.metrics(),
            strategy=self.strategy,
            precision=self.precision,
            stop=self.stop,
            record=record,
        )

    def _trainer(self) -> Trainer:
        return Trainer(
            config=self.config,
            module=self.module,
            strategy=self.strategy,
            precision=self.precision,
            steps=self.steps,
            total_steps=self.total_steps,
            validate=(lambda: self.evaluate("validation"))
            if "validation" in self.prepared.stores
            else None,
            monitor=monitor_of(self.config, self.codec),
            save=self.saving.save,
            saved=self.saving.saved,
            tell=self.tell,
            stop=self.stop,
            at=self.at,
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
                graphs={name: graph.spec for name, graph in self._graphs().items()},
                versions=versions(),
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
        if "validation" in self.prepared.stores:
            best = trainer.best  # None: it was lost; without details: it was resumed
            if best is None or best.details is None or self.config.eval.predictions:
                found = self._evaluate_best("validation")
                if found is None:
                    return None
                best = replace(best or found, details=found.details)
            evaluations["validation"] = best
        if "test" in self.prepared.stores:
            evaluation = self._evaluate_best("test")
            if evaluation is None:
                return None
            evaluations["test"] = evaluation
            where = {"step": trainer.progress.step, "epoch": trainer.progress.epoch}
            line = {**where, "split": "test", **evaluation.values}
            self.tell("evaluated", Evaluated(**where, split="test", logged=line, best=False))
        return evaluations

    def _graphs(self) -> dict[str, Graph]:
        return graphs_of(self.module.model, self.codec)

    def _evaluate_best(self, split: str) -> Evaluation | None:
        load_weights(self.bundle / WEIGHTS, self.module.model)
        if not self.config.eval.predictions:
            return self.evaluate(split)
        path, store = predictions.place(self.run_dir, split), self.prepared.stores[split]
        engine = TorchEngine(
            self.module.model, self._graphs(), device=self.strategy.device, precision=self.precision
        )
        with predictions.written(path, self.codec, engine, store, self.strategy) as record:
            return self.evaluate(split, record)

    def _result(self, trainer: Trainer, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
        trainer.tick()
        progress, seconds = trainer.progress, trainer.account.seconds
        return {
            "metrics": {split: each.values for split, each in evaluations.items()},
            "details": {split: each.details for split, each in evaluations.items()},
            "samples": {split: each.samples for split, each in evaluations.items()},
            "steps": progress.step,
            "steps_planned": self.total_steps,
            "best_step": progress.best_step or progress.step,
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


def build_session(
    run_dir: Path,
    *,
    terminal: Terminal,
    stop: Callable[[], bool] = lambda: False,
    at: Callable[[int], None] = lambda step: None,
) -> Session:
    """Reads a run folder and builds what it says.

    Raises:
        InputError: The config, its plugins or the device are not usable here.
    """
    stored = load_config(run_dir / "config.yaml")
    host = Host.discover()
    host.bring(stored.plugins, run_dir)
    strategy = build_strategy(stored, host)
    record = cast("StrategyRecord", host.entry("strategy", stored.strategy.name).record)
    precision = resolve_precision(stored.precision, strategy.device, record.precisions)
    name = strategy.broadcast(precision.name)  # the cards of other ranks may be others
    if name != precision.name:
        precision = Precision(name, strategy.device.type)
    config = stored.model_copy(update={"precision": name})
    environment = json.loads((run_dir / "environment.json").read_text(encoding="utf-8"))
    if strategy.rank == 0:
        name = device_name(strategy.device)
        if "auto" in (stored.device, stored.precision):
            terminal.note(f"device: {name}; precision: {precision.name}, {precision.reason}")
        found = {"device": name, "ranks": strategy.size, "threads": torch.get_num_threads()}
        _record(run_dir, precision, {**environment, **found})
    tokens = Path(environment["tokens"])
    if not tokens.exists():  # another machine's: each has them in a cache of its own
        tokens = stores() / tokens.name
    prepared = Prepared.open(tokens, starts=environment["token_addresses"])
    codec = prepared.codec(config, host)
    saving = Saving(run_dir, config, prepared, strategy, terminal)
    torch.manual_seed(mix(config.seed, 0, 0))
    model = build(
        config.model, "model", host, codec.head, codec.vocabulary, weights=not saving.found()
    )
    if not isinstance(model, torch.nn.Module):
        raise PluginError(f'model "{config.model.name}": its target gave {type(model).__name__}')
    module = StepModule(model, build_objective(config.task, host, prepared.schema), codec.head)
    module.to(strategy.device)
    check_placement(module, strategy.device, f'model "{config.model.name}"')
    observers = [
        (each.name, build_observer(each, host, terminal))
        for each in config.observers
        if strategy.rank == 0
    ]
    return Session(
        run_dir=run_dir,
        config=config,
        host=host,
        prepared=prepared,
        codec=codec,
        module=module,
        strategy=strategy,
        precision=precision,
        watchers=Watchers(observers),
        saving=saving,
        stop=stop,
        at=at,
    )


def _record(run_dir: Path, precision: Precision, environment: Mapping[str, Any]) -> None:
    """Puts into the run folder what only the process that has the device can tell."""
    path = run_dir / "config.yaml"
    text = path.read_text(encoding="utf-8")
    resolved = f"\nprecision: {precision.name}\n"
    with replacing(path) as partial:  # other ranks read it now
        partial.write_text(text.replace("\nprecision: auto\n", resolved), encoding="utf-8")
    write_json(run_dir / "environment.json", as_json(environment))
