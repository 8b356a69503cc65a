from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch

import nlpkit
from nlpkit.engine.precision import (
    Precision,
    Step,
    resolve_device,
    resolve_precision,
    widest,
)
from nlpkit.errors import ConfigError, PluginError
from nlpkit.training.diagnostics import check_placement, explained
from nlpkit.training.step import optimizer_step
from nlpkit_strategies.single import Single
from tests.laws.cases import CASES, build_module, collate, examples


def test_absent_device_is_an_error_with_a_remedy():
    with pytest.raises(ConfigError, match="device: cuda:63 is not there.*use device: auto or cpu"):
        resolve_device("cuda:63")


def test_the_gpu_of_a_mac_is_taken_where_there_is_one_and_else_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: mps is not there.*use device: auto or cpu"):
        resolve_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    mps = resolve_device("mps")
    assert mps.type == "mps"
    assert (widest(mps), widest(CPU)) == (torch.float32, torch.float64)  # which it lacks


CPU, CUDA = torch.device("cpu"), torch.device("cuda")
AMP = ("bf16", "fp16")


@pytest.fixture(params=[True, False], ids=["bf16 instructions", "no bf16 instructions"])
def fast(request, monkeypatch) -> bool:
    """A machine with bf16 instructions, and one without; its GPU too."""
    monkeypatch.setattr("nlpkit.engine.precision._fast_bf16", lambda device: request.param)
    return request.param


@pytest.mark.filterwarnings("ignore:.*GradScaler is enabled, but CUDA is not available")
def test_auto_is_bf16_where_it_is_fast_else_fp16_on_a_gpu_else_fp32(fast):
    assert resolve_precision("auto", CPU).name == ("bf16" if fast else "fp32")
    assert resolve_precision("auto", CUDA).name == ("bf16" if fast else "fp16")
    has = "has" if fast else "has no"
    assert resolve_precision("auto", CPU).reason == f"for the cpu {has} bf16 instructions"


@pytest.mark.filterwarnings("ignore:.*GradScaler is enabled, but CUDA is not available")
def test_auto_is_never_fp32_for_a_strategy_of_16_bits(fast):
    assert resolve_precision("auto", CPU, AMP).name == "bf16"
    assert resolve_precision("auto", CUDA, AMP).name == ("bf16" if fast else "fp16")
    if not fast:
        assert resolve_precision("auto", CPU, AMP).reason == (
            "emulated, for the cpu has no bf16 instructions, but the strategy takes bf16 or fp16"
        )


def test_auto_takes_what_the_strategy_does(fast):
    found = resolve_precision("auto", CPU, ["fp32"])
    assert (found.name, found.reason) == ("fp32", "for the strategy takes no other")


def test_fp16_on_a_cpu_is_an_error_with_a_remedy():
    with pytest.raises(ConfigError, match="precision: fp16 is for CUDA devices.*bf16") as caught:
        resolve_precision("fp16", CPU)
    assert caught.value.problems[0].key == "precision"
    assert resolve_precision("bf16", CPU).name == "bf16"


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_computing_is_in_16_bits_and_weights_stay_in_32(name, dtype):
    layer = torch.nn.Linear(4, 4)
    with Precision(name, "cpu").autocast():
        assert layer(torch.ones(1, 4)).dtype is dtype
    assert layer.weight.dtype is torch.float32


def test_gradient_that_is_no_number_takes_no_step():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    parameter.grad = torch.tensor([float("nan"), 1.0])
    step = Precision("fp32", "cpu").step(optimizer, 1.0, torch.tensor(2.0).double())
    assert (step.loss, step.taken, step.overflow) == (2.0, False, False)
    assert step.norm != step.norm
    assert parameter.tolist() == [1.0, 1.0]
    assert parameter.grad is None


class Slope:
    """One parameter under AdamW; a step of it, where the loss has a given slope."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.parameter = torch.nn.Parameter(torch.ones(()))
        self.optimizer = torch.optim.AdamW([self.parameter], lr=0.1, fused=True)

    def step(self, slope: float, loss: float = 1.0) -> Step:
        with self.precision.autocast():
            wide = (self.parameter.half() * 1.0).float()
        self.precision.backward(wide * slope)  # times the scale, it goes through 16 bits
        return self.precision.step(self.optimizer, 1.0, torch.tensor(loss).double())


def test_an_overflow_lowers_the_scale_and_leaves_weights_and_moments_alone():
    training = Slope(Precision("fp16", "cpu"))
    step = training.step(1.5)  # 1.5 × 65,536 is more than fp16 can hold
    assert (step.taken, step.overflow, step.loss) == (False, True, 1.0)
    assert training.precision.state()["scale"] == 32_768
    assert training.parameter.item() == 1.0
    assert not training.optimizer.state
    step = training.step(1.5)
    assert (step.taken, step.overflow, step.norm) == (True, False, 1.5)
    assert training.parameter.item() < 1.0


def test_a_gradient_that_no_scale_makes_small_enough_is_no_overflow():
    training = Slope(Precision("fp16", "cpu"))
    steps = [training.step(1e6) for _ in range(18)]
    assert [step.overflow for step in steps] == [True] * 16 + [False] * 2
    assert not any(step.taken for step in steps)


def test_a_loss_that_is_no_number_is_no_overflow():
    step = Slope(Precision("fp16", "cpu")).step(float("nan"), loss=float("nan"))
    assert (step.taken, step.overflow) == (False, False)


def test_the_state_of_fp16_goes_through_json_and_on_where_it_was():
    one, other = Slope(Precision("fp16", "cpu")), Slope(Precision("fp16", "cpu"))
    for slope in (1.5, 0.5, 0.5):
        one.step(slope)
    state = json.loads(json.dumps(one.precision.state()))
    assert (state["scale"], state["_growth_tracker"]) == (32_768, 2)
    other.precision.load_state({**state, "growth_interval": 3})
    assert other.precision.state() == {**state, "growth_interval": 3}
    other.step(0.5)  # the third step without an overflow
    assert other.precision.state()["scale"] == 65_536


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_other_precisions_have_no_state(name):
    precision = Precision(name, "cpu")
    assert precision.state() == {}
    precision.load_state({})
    assert Slope(precision).step(0.5).norm == 0.5


def test_overflows_are_counted_and_the_schedule_waits_for_them(tmp_path, monkeypatch):
    # fp16 is refused on a CPU; a run with it needs a GPU otherwise.
    monkeypatch.setattr("nlpkit.run.session.resolve_precision", lambda *_: Precision("fp16", "cpu"))
    rows = [{"text": f"number {number}", "label": 1000.0 + number} for number in range(24)]
    run = nlpkit.train(
        {
            "name": "tiny",
            "device": "cpu",
            "data": {"validation": None},
            "task": {"name": "sequence", "target": "regression"},
            "model": {"name": "transformer", "layers": 1, "hidden": 16, "heads": 2},
            "tokenizer": {"name": "wordpiece", "vocab_size": 50, "max_length": 8},
            "train": {"epochs": 5, "batch_size": 8, "log_every": 1, "warmup_ratio": 0.0},
            "loader": {"workers": 0},
            "observers": [],
        },
        data={"train": rows},
        out=tmp_path / "run",
    )
    lines = [line for line in run.history if line["split"] == "train"]
    overflowed = [not math.isfinite(line["grad_norm"]) for line in lines]
    assert run.result["overflows"] == run.result["skipped_steps"] == sum(overflowed)
    assert 0 < sum(overflowed) < len(lines) == 15
    rates = [line["learning_rate"] for line in lines]
    stayed = [before == after for before, after in pairwise(rates)]
    assert stayed == overflowed[:-1]


def test_tensor_left_on_another_device_is_named_with_its_component_and_both_devices():
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)
            self.inner.table = torch.zeros(3, device="meta")

    with pytest.raises(PluginError, match=r'model "mine": tensor inner.table is on meta, .* cpu'):
        check_placement(Model(), torch.device("cpu"), 'model "mine"')


def test_tensor_made_on_another_device_is_found_by_line_with_both_devices():
    made = torch.ones(3)
    with pytest.raises(PluginError, match=r"test_precision.py:\d+: `made \+ .*meta.* on cpu"):
        with explained(torch.device("cpu")):
            made + torch.zeros(3, device="meta")


def test_other_errors_of_a_model_are_found_by_line_too():
    message = r"test_precision.py:\d+: `torch.ones.2, 3. @ .*RuntimeError: .*shapes cannot be mult"
    with pytest.raises(PluginError, match=message):
        with explained(torch.device("cpu")):
            torch.ones(2, 3) @ torch.ones(2, 3)


def test_loss_that_is_no_number_takes_no_step_even_where_its_gradient_is_one():
    case = CASES["class"]
    module = build_module(case, torch.float32)
    module.objective = Infinite()
    before = [p.detach().clone() for p in module.parameters()]
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    single = Single(torch.device("cpu"))
    batches = [collate(case, examples(case, 4))]
    step = optimizer_step(batches, module, single, Precision("fp32", "cpu"), optimizer, 1.0)
    assert not step.taken
    assert all(map(torch.equal, before, module.parameters()))


class Infinite:
    """A loss that overflows, with a gradient that does not."""

    def total(self, logits, targets, rows):
        return logits.sum() + torch.inf
