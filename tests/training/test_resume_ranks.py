"""Resuming with several processes, and with another number of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import nlpkit
from tests.laws.kills import OBSERVER
from tests.tasks.language import WORDS
from tests.training.test_trainer import ROWS, config, same, weights

STOPPER = """
import os, signal
import nlpkit
from nlpkit.contracts import Observer

class Stopper(Observer):
    def __init__(self, options, terminal):
        pass

    def step_ended(self, event):
        if event.step == 5:
            os.kill(os.getppid(), signal.SIGTERM)

@nlpkit.hookimpl
def nlpkit_observers():
    yield nlpkit.ObserverRecord(name="parent_stopper", target="parent_stopper:Stopper")
"""
TWO = {"name": "ddp", "devices": 2}
DATA = {"train": ROWS, "validation": ROWS[:13]}


def batches(run: Path) -> dict[int, list[int]]:
    lines = map(json.loads, (run / "ledger.jsonl").read_text().splitlines())
    return {line["step"]: line["ids"] for line in lines}


def train(tmp_path: Path, out: str, *, stop: bool = False, **changes: Any) -> nlpkit.Run:
    (tmp_path / "parent_stopper.py").write_text(STOPPER)
    settings = config(
        plugins=[str(OBSERVER), str(tmp_path / "parent_stopper.py")],
        observers=["ledger", *(["parent_stopper"] if stop else [])],
        checkpoint={"every": 4},
        device="cpu",
        train={"epochs": 4, "batch_size": 8, "log_every": 1, "learning_rate": 1e-2},
        **changes,
    )
    return nlpkit.train(settings, data=DATA, out=tmp_path / out, resume=(tmp_path / out).exists())


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_that_were_stopped_end_as_those_that_were_not(tmp_path, ranks):
    strategy = {"name": "ddp", "devices": ranks}
    whole = train(tmp_path, "whole", strategy=strategy, dropout=0.3)
    with pytest.raises(nlpkit.Interrupted):
        train(tmp_path, "run", strategy=strategy, dropout=0.3, stop=True)
    last = (tmp_path / "run" / "checkpoints" / "last").read_text()
    assert "step-00000006" <= last < "step-00000032"  # the signal takes its time
    run = train(tmp_path, "run", strategy=strategy, dropout=0.3)
    assert same(weights(run), weights(whole))
    assert run.history == whole.history
    assert batches(run.path) == batches(whole.path)


def test_another_number_of_ranks_goes_on_with_the_same_batches_and_gradients(tmp_path, capsys):
    whole = train(tmp_path, "whole")
    with pytest.raises(nlpkit.Interrupted):
        train(tmp_path, "run", strategy=TWO, stop=True)
    run = train(tmp_path, "run", strategy="single")
    assert "ranks 2 became 1" in capsys.readouterr().err
    assert batches(run.path) == batches(whole.path)
    for line, expected in zip(run.history, whole.history, strict=True):
        numbers = [key for key, value in expected.items() if isinstance(value, float)]
        assert line["step"] == expected["step"]
        assert [line[key] for key in numbers] == pytest.approx(
            [expected[key] for key in numbers], rel=1e-4
        )


NORMED = """
from torch import nn
import nlpkit
from nlpkit.nn import Head

class Normed(nn.Module):
    inputs = ("input_ids", "attention_mask")

    def __init__(self, head, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary.size, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = Head(8, head, pooling="mean", dropout=0.0)

    def forward(self, input_ids, attention_mask):
        hidden = self.norm(self.embedding(input_ids).transpose(1, 2)).transpose(1, 2)
        return self.head(hidden, attention_mask)

def build(options, head, vocabulary, *, weights):
    return Normed(head, vocabulary)

@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="normed", target="normed:build")
"""


def test_ranks_evaluate_one_model_whatever_its_buffers_and_write_each_row_once(tmp_path):
    (tmp_path / "normed.py").write_text(NORMED)
    settings = config(
        plugins=[str(tmp_path / "normed.py")], strategy=TWO, device="cpu", eval={"batch_size": 4}
    )
    run = nlpkit.train({**settings, "model": "normed"}, data=DATA, out=tmp_path / "run")
    rows = DATA["validation"]
    again = nlpkit.evaluate(run.path, rows)
    assert again == pytest.approx(run.metrics["validation"], rel=1e-6)
    lines = run.predictions("validation")
    assert [line["address"] for line in lines] == [f"validation row {at}" for at in range(13)]
    found = nlpkit.load(run.path, device="cpu").predict([row["text"] for row in rows])
    for line, row, alone in zip(lines, rows, found, strict=True):
        assert (line["target"], line["prediction"]) == (row["label"], alone.label)
        assert line["score"] == pytest.approx(alone.score, abs=1e-6)


@pytest.mark.slow
def test_what_ranks_write_is_measured_as_one_would(tmp_path):
    settings = config(
        task={"name": "seq2seq", "generate": {"max_tokens": 24}},
        tokenizer={"name": "bpe", "lowercase": False, "max_length": 128},
        strategy={"name": "ddp", "devices": 3},
        device="cpu",
        eval={"batch_size": 4, "generated_rows": 7},
        train={"epochs": 4, "batch_size": 8, "learning_rate": 5e-3},
    )
    rows = [{"source": word, "target": f"{word} or {word} or {word}"} for word in WORDS * 3]
    data = {"train": rows, "validation": rows[:13]}
    run = nlpkit.train(settings, data=data, out=tmp_path / "run")
    again = nlpkit.evaluate(run.path, rows[:13])
    found = run.metrics["validation"]
    for name in ("bleu", "chrf", "exact_match"):
        assert found[name] == again[name]
    assert 0 < found["chrf"]
    lines = run.predictions("validation")
    assert [line["address"] for line in lines] == [f"validation row {at}" for at in range(13)]
