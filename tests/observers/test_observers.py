"""The built-in observers, told what a run tells them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nlpkit.cli.render import Terminal
from nlpkit.events import Evaluated, RunEnded, RunStarted, StepEnded
from nlpkit.plugin.host import Host, load

CONFIG = {"name": "日志", "eval": {"monitor": "macro_f1"}}


def watch(name, run_dir):
    """Tells an observer of a run of four steps with one evaluation."""
    record = Host.discover().entry("observer", name).record
    observer = load(record, record.target)(None, Terminal())
    observer.run_started(
        RunStarted(
            run_dir=run_dir, config=CONFIG, epochs=1, total_steps=4, steps_done=0, device="cpu"
        )
    )
    for step in range(1, 5):
        line = {"step": step, "epoch": 1, "split": "train", "loss": 1 / step, "grad_norm": 2.0}
        observer.step_ended(
            StepEnded(
                step=step,
                epoch=1,
                loss=1 / step,
                grad_norm=2.0,
                learning_rate=0.1,
                taken=step != 4,
                ids=np.arange(2),
                logged=line if step % 2 == 0 else None,
            )
        )
    line = {"step": 4, "epoch": 1, "split": "validation", "loss": 0.5, "accuracy": 0.75}
    line |= {"weighted_f1": 0.5, "macro_f1": 0.25}
    observer.evaluated(Evaluated(step=4, epoch=1, split="validation", logged=line, best=True))
    observer.run_ended(RunEnded(result={"metrics": line}))


def test_progress_shows_loss_rate_and_each_evaluation(tmp_path, capsys):
    watch("progress", tmp_path)

    out, err = capsys.readouterr()
    evaluation, last = err.splitlines()
    assert out == ""
    assert evaluation == (
        "epoch 1  step 4  validation  loss 0.5000  accuracy 0.7500  macro_f1 0.2500  (best so far)"
    )
    assert re.fullmatch(r"training on cpu: 4/4 steps  .*/s  in 0:00  loss 0.2500 \(skipped\)", last)


def test_tensorboard_has_the_scalars_of_metrics_jsonl_and_the_config(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )

    watch("tensorboard", tmp_path)

    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = {f"validation/{name}" for name in ("loss", "accuracy", "weighted_f1", "macro_f1")}
    assert set(events.Tags()["scalars"]) == tags | {"train/grad_norm", "train/loss"}
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(2, 0.5), (4, 0.25)]
    assert [(e.step, e.value) for e in events.Scalars("validation/accuracy")] == [(4, 0.75)]
    (text,) = events.Tensors("config/text_summary")
    config = text.tensor_proto.string_val[0].decode().strip("`\n")
    assert json.loads(config) == CONFIG
