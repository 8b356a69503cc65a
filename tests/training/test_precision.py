from __future__ import annotations

import pytest
import torch

from nlpkit.errors import ConfigError, PluginError
from nlpkit.training.precision import Precision, resolve_device, resolve_precision
from nlpkit.training.step import check_placement, explained, optimizer_step
from nlpkit_strategies.single import Single
from tests.laws.experiment import CASES, build_module, collate, examples


def test_absent_device_is_an_error_with_a_remedy():
    with pytest.raises(ConfigError, match="device: cuda:63 is not there.*use device: auto or cpu"):
        resolve_device("cuda:63")


def test_auto_precision_is_one_of_those_that_the_device_has():
    assert resolve_precision("auto", torch.device("cpu")).name in ("fp32", "bf16")
    assert resolve_precision("bf16", torch.device("cpu")).name == "bf16"


def test_bf16_computes_in_16_bits_and_keeps_weights_in_32():
    layer = torch.nn.Linear(4, 4)
    with Precision("bf16", "cpu").autocast():
        assert layer(torch.ones(1, 4)).dtype is torch.bfloat16
    assert layer.weight.dtype is torch.float32


def test_gradient_that_is_no_number_takes_no_step():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    parameter.grad = torch.tensor([float("nan"), 1.0])
    loss, norm, taken = Precision("fp32", "cpu").step(optimizer, 1.0, torch.tensor(2.0).double())
    assert (loss, taken) == (2.0, False)
    assert norm != norm
    assert parameter.tolist() == [1.0, 1.0]
    assert parameter.grad is None


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

    def total(self, logits, targets):
        return logits.sum() + torch.inf
