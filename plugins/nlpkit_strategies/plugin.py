"""How a step is spread over devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nlpkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@nlpkit.hookimpl
def nlpkit_strategies() -> Iterator[nlpkit.StrategyRecord]:
    """From one device to as many as the machine has; the better choice first."""
    yield nlpkit.StrategyRecord(
        name="single",
        target="nlpkit_strategies.single:build",
        summary="One device",
        extra="train",
    )
    yield nlpkit.StrategyRecord(
        name="amp",
        target="nlpkit_strategies.single:build",
        summary="One device, in 16 bits",
        extra="train",
        precisions=("bf16", "fp16"),
    )
    yield nlpkit.StrategyRecord(
        name="ddp",
        target="nlpkit_strategies.ddp:build",
        config="nlpkit_strategies.config:DdpConfig",
        summary="Several devices, a process for each",
        extra="train",
        ranks=True,
    )
    yield nlpkit.StrategyRecord(
        name="data_parallel",
        target="nlpkit_strategies.data_parallel:build",
        config="nlpkit_strategies.config:DataParallelConfig",
        summary="Several GPUs, one process; ddp is the better choice",
        extra="train",
    )
