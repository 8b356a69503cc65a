from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

import nlpkit
from nlpkit.cli.render import Terminal
from nlpkit.data.loader import Batching, Loading, TrainingSteps
from nlpkit.run.session import Session
from nlpkit.training.trainer import is_better

ROWS = [
    {"text": f"{word} number {number} {'of many ' * (number % 5)}", "label": label}
    for number in range(30)
    for word, label in (("where is my parcel", "track"), ("give my money back", "refund"))
]
LAST_WORDS = [{"text": f"parcel {number}", "label": "track"} for number in range(5)]


def config(**changes: Any) -> dict[str, Any]:
    model = {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2}
    base: dict[str, Any] = {
        "name": "tiny",
        "task": "sequence",
        "data": {"validation": None},
        "model": {**model, "dropout": changes.pop("dropout", 0.0)},
        "tokenizer": {"name": "wordpiece", "vocab_size": 100, "max_length": 16},
        "train": {"epochs": 2, "batch_size": 8, "log_every": 1, "learning_rate": 1e-2},
        "loader": {"workers": 0},
        "observers": [],
        "precision": "fp32",
    }
    for key, value in changes.items():
        section = base.get(key)
        base[key] = {**section, **value} if isinstance(section, dict) else value
    return base


def train(out: Path, data: Any = None, **changes: Any) -> nlpkit.Run:
    return nlpkit.train(config(**changes), data=data or {"train": ROWS}, out=out)


def weights(run: nlpkit.Run) -> dict[str, torch.Tensor]:
    return load_file(run.bundle / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def plain_loop(model: Any, batches: list[Any], *, peak: float, total: int) -> list[float]:
    """The whole of training in plain PyTorch; each batch holds inputs, targets and its count."""
    table = model.embedding.tokens.weight
    decayed = [p for p in model.parameters() if p.dim() > 1 and p is not table]
    others = [p for p in model.parameters() if p.dim() <= 1 or p is table]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, fused=True)
    warmup = -(-total // 10)
    losses = []
    for step, batch in enumerate(batches):
        rate = (step + 1) / warmup if step < warmup else (total - step) / (total - warmup)
        for group in optimizer.param_groups:
            group["lr"] = peak * rate
        logits = model(batch.inputs["input_ids"], batch.inputs["attention_mask"])
        losses_B = functional.cross_entropy(logits, batch.targets["label"], reduction="none")
        total_loss = (losses_B * batch.targets["weight"].float()).sum()
        (total_loss * (1 / batch.count)).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in decayed + others])
        optimizer.grad_scale = ((norm.double() + 1e-6) / 1.0).clamp(min=1.0).float()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total_loss.item() / batch.count)
    return losses


def test_losses_and_weights_are_those_of_a_plain_loop_bit_for_bit(tmp_path):
    run = train(tmp_path / "run", train={"batch_size": 7})
    session = Session(run.path, terminal=Terminal())
    torch.set_num_threads(json.loads((run.path / "environment.json").read_text())["threads"])
    steps = TrainingSteps(
        session.prepared.stores["train"],
        session.codec,
        Batching(seed=13, batch_size=7),
        Loading(),
    )
    batches = [step.batches[0] for step in steps.load(1, session.total_steps)]
    assert len(batches) == 2 * 9
    model = session.module.model.train()
    losses = plain_loop(model, batches, peak=1e-2, total=session.total_steps)
    assert [line["loss"] for line in run.history if line["split"] == "train"] == losses
    assert same(dict(model.state_dict()), weights(run))


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(tmp_path):
    first = train(tmp_path / "a", dropout=0.3)
    again = train(tmp_path / "b", dropout=0.3)
    workers = train(tmp_path / "c", dropout=0.3, loader={"workers": 2})
    other = train(tmp_path / "d", dropout=0.3, seed=14)
    assert same(weights(first), weights(again))
    assert same(weights(first), weights(workers))
    assert not same(weights(first), weights(other))


def test_training_leaves_the_callers_random_numbers_as_they_were(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(tmp_path / "run", dropout=0.3)
    assert torch.equal(torch.rand(3), expected)


def test_the_best_weights_are_kept_and_early_stopping_ends_the_run(tmp_path):
    data = {"train": ROWS, "validation": ROWS[:10]}
    run = train(
        tmp_path / "run",
        data,
        train={"epochs": 30, "early_stopping": 2, "learning_rate": 3e-2},
    )
    lines = [line for line in run.history if line["split"] == "validation"]
    values = [line["accuracy"] for line in lines]
    assert len(lines) < 30
    assert len(lines) == values.index(max(values)) + 3
    assert values.count(max(values)) > 1
    best = max(lines, key=lambda line: (line["accuracy"], -line["loss"]))
    assert best["loss"] < lines[values.index(max(values))]["loss"]
    assert run.result["best_step"] == best["step"]
    assert run.metrics["validation"] == pytest.approx(
        {n: best[n] for n in run.metrics["validation"]}
    )
    found = nlpkit.evaluate(run.path, data["validation"])
    assert (found["accuracy"], found["loss"]) == pytest.approx((best["accuracy"], best["loss"]))


@pytest.mark.parametrize(
    ("values", "best", "is_so"),
    [
        ((1.0, 0.006), (1.0, 0.12), True),
        ((1.0, 0.12), (1.0, 0.006), False),
        ((1.0, 0.12), (1.0, 0.12), False),
        ((0.9, 0.006), (1.0, 0.12), False),
        ((0.0, 0.5), (0.0, math.nan), True),
        ((0.0, math.nan), (0.0, 0.5), False),
        ((math.nan, 0.1), (0.0, 0.5), False),
        ((0.0, 0.5), (math.nan, 0.1), True),
        ((math.nan, 0.1), (math.nan, 0.5), True),
        ((math.nan, 0.5), (math.nan, 0.5), False),
    ],
)
def test_of_equal_values_the_lower_loss_is_better(values, best, is_so):
    names = ("f1", "loss")
    ways = (("f1", "higher"), ("loss", "lower"))
    found, other = (dict(zip(names, each, strict=True)) for each in (values, best))
    assert is_better(found, other, *ways) is is_so
    assert is_better(found, None, *ways)
    if not math.isnan(values[1] + best[1]):
        assert is_better(found, other, ("loss", "lower")) is (values[1] < best[1])


def test_evaluation_every_so_many_steps_and_at_the_end(tmp_path):
    run = train(tmp_path / "run", {"train": ROWS, "validation": ROWS[:10]}, eval={"every": 6})
    steps = [line["step"] for line in run.history if line["split"] == "validation"]
    assert steps == [6, 12, 16]


def test_max_steps_ends_the_run_and_the_schedule(tmp_path):
    run = train(tmp_path / "run", train={"max_steps": 5})
    lines = [line for line in run.history if line["split"] == "train"]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[-1]["learning_rate"] == pytest.approx(1e-2 / 4)


def test_unknown_monitor_is_an_error_that_names_the_values(tmp_path):
    with pytest.raises(nlpkit.ConfigError, match='did you mean "macro_f1"') as caught:
        train(tmp_path / "run", eval={"monitor": "macro-f1"})
    assert caught.value.problems[0].key == "eval.monitor"


def bad_rows() -> list[dict[str, Any]]:
    return [{**row, "weight": 1e30 if index == 17 else 1.0} for index, row in enumerate(ROWS)]


def test_gradient_that_is_no_number_stops_the_run_naming_step_and_samples(tmp_path):
    changes = {"task": {"name": "sequence", "target": "regression", "weight": "weight"}}
    rows = [{**row, "label": 1e25 if row["weight"] > 1 else 1.0} for row in bad_rows()]
    with pytest.raises(nlpkit.NonFiniteError, match=r"step \d+: loss .*train row 17.*nonfinite"):
        train(tmp_path / "run", {"train": rows}, **changes)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["grad_norm"] in ("inf", "nan")


def test_skipped_steps_are_counted_and_do_not_advance_the_schedule(tmp_path):
    changes = {"task": {"name": "sequence", "target": "regression", "weight": "weight"}}
    rows = [{**row, "label": 1e25 if row["weight"] > 1 else 1.0} for row in bad_rows()]
    run = train(tmp_path / "run", {"train": rows}, train={"nonfinite": "skip"}, **changes)
    assert run.result["skipped_steps"] == 2  # once an epoch
    lines = [line for line in run.history if line["split"] == "train"]
    rates = [line["learning_rate"] for line in lines]
    skipped = [at for at, line in enumerate(lines) if not math.isfinite(line["grad_norm"])]
    assert len(skipped) == 2
    assert all(rates[index] == rates[index + 1] for index in skipped if index + 1 < len(rates))


def test_steps_of_which_no_row_counts_are_skipped_and_have_no_loss(tmp_path):
    rows = [{**row, "weight": float(index % 3 > 0)} for index, row in enumerate(ROWS[:12])]
    run = train(
        tmp_path / "run",
        {"train": rows},
        task={"name": "sequence", "weight": "weight"},
        train={"batch_size": 1, "epochs": 1},
        observers=["progress", "tensorboard"],
    )
    text = (run.path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert run.history == lines
    nothing = [index for index, line in enumerate(lines) if line["loss"] is None]
    assert len(nothing) == run.result["skipped_steps"] == 4
    assert all(lines[index]["grad_norm"] == 0 for index in nothing)
    rates = [line["learning_rate"] for line in lines]
    assert all(rates[index] == rates[index + 1] for index in nothing if index + 1 < len(lines))
    assert all(not each["failures"] for each in run.result["observers"].values())


def test_honest_numbers_are_in_the_result(tmp_path):
    run = train(tmp_path / "run")
    result = run.result
    assert result["steps"] == result["steps_planned"] == 16
    assert result["samples_per_second"] > 0
    assert 0 < result["padding_share"] < 0.5
    assert 0 <= result["waiting_for_data_share"] < 1
    assert result["data"]["truncated"]["train"] >= 0


def test_of_rows_in_memory_only_what_the_task_reads_is_kept(tmp_path):
    rows = [{**row, "picture": b"x", "price": 2} for row in ROWS]
    train(tmp_path / "run", {"train": rows}, train={"max_steps": 1})
    with (tmp_path / "run" / "inputs" / "train.jsonl").open() as lines:
        assert [values for _, values in map(json.loads, lines)] == ROWS
