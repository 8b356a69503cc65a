"""What the trainers of benchmarks/training.py have in common; which steps stand for an epoch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler

from benchmarks.sets import SETS, Rows

BATCH, RATE, DECAY, WARM_UP, CLIP = 32, 1e-4, 0.01, 0.1, 1.0


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        data: A name of `SETS`.
        precision: "fp32", or "bf16": autocast over fp32 weights.
        steps: Optimizer steps, to measure speed by; None: whole epochs, and then the test rows.
        skipped: The first steps, whose time does not count.
        epochs: How many, where there are no steps.
        seed: Of shuffling, dropout and the head.
        overrides: Of nlpkit's config; the peers take none.
    """

    data: str
    precision: str
    steps: int | None
    skipped: int
    epochs: int
    seed: int
    overrides: tuple[str, ...] = ()

    @property
    def rows(self) -> Rows:
        """The data set."""
        return SETS[self.data]

    def autocast(self) -> AbstractContextManager[Any]:
        """Surrounds a forward pass of a plain loop."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast("cpu", dtype=torch.bfloat16)


class Typical(Sampler[int]):
    """The batches of a sampler by length in random order, the first ones of typical length."""

    def __init__(self, sampler: Any, case: Case) -> None:
        self.sampler, self.case = sampler, case

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        order = list(self.sampler)
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]

        def shuffled(seed: int) -> list[list[int]]:
            whole = batches[: len(order) // BATCH]  # what is left over would shift all after it
            return [*random.Random(seed).sample(whole, len(whole)), *batches[len(whole) :]]

        seed = typical_seed(shuffled, self.sampler.lengths, self.case)
        return (index for batch in shuffled(seed) for index in batch)


def typical_seed(
    plan: Callable[[int], Sequence[Sequence[int]]], lengths: Sequence[int], case: Case
) -> int:
    """The first seed, from the case's own on, whose counted steps are as long as the average step.

    Args:
        plan: The batches of an epoch, of a seed.
        lengths: Tokens of each sample.
        case: Says which steps count; of whole epochs all do, and its own seed is taken.
    """
    if case.steps is None:
        return case.seed
    seeds = range(1000 * case.seed, 1000 * (case.seed + 1))
    return next((seed for seed in seeds if _off(plan(seed), lengths, case) < 0.01), seeds[0])


def _off(batches: Sequence[Sequence[int]], lengths: Sequence[int], case: Case) -> float:
    """How far the counted steps' mean tokens are from that of all, as a share: padded and not."""
    padded = [len(batch) * max(lengths[index] for index in batch) for batch in batches]
    tokens = [sum(lengths[index] for index in batch) for batch in batches]
    return max(abs(_mean_of_counted(sizes, case) - 1) for sizes in (padded, tokens))


def _mean_of_counted(sizes: Sequence[int], case: Case) -> float:
    """The mean of the counted steps, of which the mean of all is 1."""
    counted = sizes[case.skipped : case.steps]
    return sum(counted) / len(counted) * len(sizes) / sum(sizes)
