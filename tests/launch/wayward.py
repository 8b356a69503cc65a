"""A single-file plugin: a Transformer that, in one rank and one step, does what `fate` says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pydantic import Field

import nlpkit
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.model import build as build_transformer


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="wayward", target="wayward:build", config="wayward:WaywardConfig")


class WaywardConfig(TransformerConfig):
    """Options: `fate` of a rank, such as "raise", and the step that it is in then."""

    fate: dict[str, str] = Field(default_factory=dict)
    step: int = 3


def build(options, head, vocabulary, *, weights):
    fate = options.fate.get(os.environ.get("RANK", "0"), "")
    plain = TransformerConfig(layers=1, hidden=16, heads=2, dropout=0.0)
    model = build_transformer(plain, head, vocabulary, weights=weights)
    passes = 0

    def meet(module, inputs):
        nonlocal passes
        passes += module.training
        if passes == options.step and fate:
            passes += 1
            Path(os.environ["NLPKIT_CACHE"], f"met-{os.getpid()}").touch()
            FATES[fate]()

    model.register_forward_pre_hook(meet)
    return model


def fail():
    raise ZeroDivisionError("the model is at fault")


FATES = {
    "raise": fail,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sleep": lambda: time.sleep(1000),
}
