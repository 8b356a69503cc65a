"""What every rank of a run does: `work(run_dir, stop)`, or `python -m nlpkit.worker RUN_DIR`."""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from nlpkit.cli.render import Terminal
from nlpkit.environment import threads_per_rank
from nlpkit.training.run import build_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def work(run_dir: Path, stop: Callable[[], bool] = lambda: False) -> None:
    """Trains the run in `run_dir`; config, environment and token store are all that it reads.

    Args:
        run_dir: A run folder that has its config.yaml.
        stop: Polled once a step; true ends training after that step.

    Raises:
        NlpkitError: What went wrong, of the input or of the run.
    """
    with _as_found():
        torch.set_num_threads(threads_per_rank(1))
        build_session(run_dir, terminal=Terminal(), stop=stop).fit()


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


if __name__ == "__main__":
    work(Path(sys.argv[1]))
