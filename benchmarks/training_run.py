"""One run of benchmarks/training.py, in a process of its own.

`python -m benchmarks.training_run TRAINER DATA --precision fp32 [--steps N] --out FILE.json`: with
steps speed is measured, without them whole epochs are trained and the test rows are predicted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers

import nlpkit
from benchmarks.page import processor
from benchmarks.sets import MINILM, SETS
from benchmarks.training_case import BATCH, CLIP, DECAY, RATE, WARM_UP, Case, typical_seed
from benchmarks.training_peers import bare, best_trainer, lightning, naive, trainer
from nlpkit.cli.render import Terminal
from nlpkit.config.resolve import resolve
from nlpkit.data.loader import Batching, Loading, TrainingSteps
from nlpkit.data.plan import plan
from nlpkit.data.prepare import Prepared, prepare
from nlpkit.engine.precision import resolve_precision
from nlpkit.environment import usable_cores
from nlpkit.files import write_json
from nlpkit.plugin.host import Host

CLOCK = Path(__file__).with_name("bench_clock.py")
EVERY = 0.2  # seconds between two looks at the memory of this process
RARELY = 25  # of these looks, one is at loader workers too: it takes many milliseconds


def main(arguments: list[str] | None = None) -> None:
    """Runs it and writes what came of it."""
    options = parsed(arguments)
    rows = SETS[options.data]
    case = Case(
        data=options.data,
        precision=options.precision,
        steps=options.steps,
        skipped=options.skipped if options.steps else 0,
        epochs=options.epochs or rows.epochs,
        seed=options.seed,
        overrides=tuple(options.set),
    )
    os.environ.pop("OMP_NUM_THREADS", None)  # nlpkit obeys it, and all take the same threads
    torch.set_num_threads(usable_cores())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    with Memory() as memory:
        found = TRAINERS[options.trainer](case)
        peak = memory.peak(found.pop("ended"))
    found |= {
        "trainer": options.trainer,
        "data": case.data,
        "precision": case.precision,
        "seed": case.seed,
        "skipped": case.skipped,
        "epochs": None if case.steps else case.epochs,
        "overrides": list(case.overrides),
        "samples_per_second": found["samples"] / found["seconds"],
        "peak_mb": peak / 1e6,
        "auto": resolve_precision("auto", torch.device("cpu")).name,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "lightning": version("lightning"),
        "python": platform.python_version(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, found)
    print(json.dumps(found))


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks.training_run", description=__doc__)
    parser.add_argument("trainer", choices=TRAINERS)
    parser.add_argument("data", choices=SETS)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, help="optimizer steps; else whole epochs")
    parser.add_argument("--epochs", type=int, help="else the data set's own")
    parser.add_argument("--skipped", type=int, default=5, help="first steps that do not count")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--set", nargs="*", default=[], help="overrides of nlpkit's config")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def config_of(case: Case) -> dict[str, Any]:
    """nlpkit's config: what all trainers have in common, and its defaults."""
    rows = case.rows
    test = {} if case.steps else {"test": str(rows.path("test"))}
    return {
        "name": f"bench-{case.data}",
        "device": "cpu",
        "precision": case.precision,
        "seed": case.seed,
        "plugins": [str(CLOCK)],
        "task": {"name": "sequence", "label": rows.label},
        "data": {"train": str(rows.path("train")), "validation": None, **test},
        "tokenizer": {"name": "pretrained", "max_length": rows.max_length},
        "model": {"name": "bert", "pretrained": str(MINILM)},
        "train": {
            "epochs": case.epochs,
            "max_steps": case.steps,
            "batch_size": BATCH,
            "learning_rate": RATE,
            "weight_decay": DECAY,
            "warmup_ratio": WARM_UP,
            "max_grad_norm": CLIP,
        },
        "observers": [{"name": "clock", "warmup": case.skipped}],
    }


def own(case: Case) -> dict[str, Any]:
    """`nlpkit.train` as users call it, with an observer that looks at the clock."""
    raw = config_of(case)
    if case.steps:
        raw["seed"] = typical_plan(case, prepared_of(raw, case)[0])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        result = nlpkit.train(nlpkit.load_config(raw, list(case.overrides)), out=out).result
        clock = json.loads((out / "clock.json").read_text())
    samples = BATCH * (result["steps"] - case.skipped)
    if case.steps is None:
        samples = case.epochs * result["data"]["rows"]["train"]
    found = {
        "steps": result["steps"],
        "samples": samples,
        "seconds": clock["seconds"] if case.steps else result["training_seconds"],
        "ended": clock["ended"],
        "padding": result["padding_share"],
    }
    if case.steps is None:
        found["accuracy"] = result["metrics"]["test"]["accuracy"]
    return found


def bare_loop(case: Case) -> dict[str, Any]:
    """The plain loop over the batches that nlpkit has in the same steps."""
    raw = config_of(case)
    prepared, codec, loader = prepared_of(raw, case)
    if case.steps is None:
        raise SystemExit("bare: measures speed only; say --steps")
    seed = typical_plan(case, prepared)
    steps = TrainingSteps(
        prepared.stores["train"],
        codec,
        Batching(seed=seed, batch_size=BATCH, bucketing=loader.bucketing),
        Loading(workers=loader.workers, prefetch=loader.prefetch),
    )
    batches = (batch for step in steps.load(1, case.steps) for batch in step.batches)
    return bare(case, batches, len(prepared.schema["labels"]), case.steps)


def prepared_of(raw: dict[str, Any], case: Case) -> tuple[Prepared, Any, Any]:
    """The tokens, the codec that collates them, and how they are loaded."""
    host = Host.discover()
    raw = {**raw, "plugins": [], "observers": []}
    config = resolve(nlpkit.load_config(raw, list(case.overrides)), host)
    prepared = prepare(config, host, Terminal())
    return prepared, prepared.codec(config, host), config.loader


def typical_plan(case: Case, prepared: Prepared) -> int:
    """The seed whose first steps have batches of typical length."""
    lengths = prepared.stores["train"].lengths
    shuffle = {"epoch": 1, "batch_size": BATCH, "bucketing": True}
    return typical_seed(lambda seed: plan(lengths, seed=seed, **shuffle), lengths, case)


TRAINERS = {
    "nlpkit": own,
    "trainer": trainer,
    "trainer-best": best_trainer,
    "lightning": lightning,
    "naive": naive,
    "bare": bare_loop,
}


class Memory:
    """Looks at the memory of this process and its children as long as the context lasts.

    Forked workers have most of their memory in common with this process: that counts once.
    """

    def __enter__(self) -> Memory:
        self.seen: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()

    def peak(self, until: float) -> int:
        """The most bytes that were seen up to a time of `time.perf_counter`."""
        return max(size for when, size in self.seen if when <= until)

    def _watch(self) -> None:
        looks = below = 0
        while True:
            if looks % RARELY == 0:
                below = sum(unshared(process) for process in children(os.getpid()))
            looks += 1
            self.seen.append((time.perf_counter(), anonymous() + below))
            if self._over.wait(EVERY):
                return


def anonymous() -> int:
    """Bytes of anonymous memory of this process."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(row.split()[1]) for row in rows if row.startswith("RssAnon"))


def children(process: int) -> list[int]:
    """All processes that a process started, and those that these started."""
    found: list[int] = []
    try:
        for thread in (Path("/proc") / str(process) / "task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *children(child)]
    except OSError:  # it has ended meanwhile
        pass
    return found


def unshared(process: int) -> int:
    """Bytes of memory that a process has written, and that no other process has too."""
    try:
        rows = (Path("/proc") / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(row.split()[1]) for row in rows if row.startswith("Private_Dirty"))


if __name__ == "__main__":
    main()
