"""What every rank of a run does: `work(run_dir, ...)`, or `python -m nlpkit.worker RUN_DIR`.

Several such processes find each other through their environment, as torchrun sets it; the local
launcher gives them a folder instead.
"""

from __future__ import annotations

import os
import random
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from nlpkit.cli.render import Terminal
from nlpkit.config.load import load_config
from nlpkit.engine import cores
from nlpkit.environment import threads_per_rank
from nlpkit.errors import InputError
from nlpkit.plugin.host import Host
from nlpkit.run.rank import serve
from nlpkit.run.session import Session
from nlpkit.training.ranks import join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def work(
    run_dir: Path,
    stop: Callable[[], bool] = lambda: False,
    at: Callable[[int], None] = lambda step: None,
) -> bool:
    """Trains the run in `run_dir`; config, environment and token store are all that it reads.

    Args:
        run_dir: A run folder that has its config.yaml; its newest checkpoint is where it begins.
        stop: Polled once a step and once a batch of an evaluation; true: saves, and leaves.
        at: Told the number of each step as it begins.

    Returns:
        Whether it finished.

    Raises:
        NlpkitError: What went wrong, of the input or of the run.
    """
    cores.share()
    with _as_found():
        torch.set_num_threads(threads_per_rank(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
        return Session(run_dir, terminal=Terminal(), stop=stop, at=at).fit()


@contextmanager
def _as_found() -> Iterator[None]:
    """Leaves the process's random generators, threads and gradient mode as they were."""
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def main(arguments: Sequence[str]) -> None:
    """One process of a run; `arguments` are the run folder and, from our launcher, its own.

    It ends this process: with 0, 1 or 2 as the command line does, or 128 + signal after saving.
    """
    run_dir, folder = map(Path, (*arguments, "", "")[:2])

    def run(stop: Callable[[], bool], at: Callable[[int], None]) -> bool:
        if not arguments:
            raise InputError("which run? `python -m nlpkit.worker RUN_DIR`")
        if "WORLD_SIZE" in os.environ:
            config, host = load_config(run_dir / "config.yaml"), Host.discover()
            host.bring(config.plugins, run_dir)
            join(config, host, f"file://{folder}/ranks" if launched else "env://")
        return work(run_dir, stop, at)

    launched = len(arguments) > 1
    serve(run, folder if launched else None)


if __name__ == "__main__":
    main(sys.argv[1:])
