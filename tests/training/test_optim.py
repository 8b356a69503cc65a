from __future__ import annotations

import pytest
import torch

import nlpkit
from nlpkit.config.schema import TrainConfig
from nlpkit.cpu import adamw as cpu_adamw
from nlpkit.cpu.adamw import AdamW, use_sparse_gradients
from nlpkit.engine.precision import Precision
from nlpkit.training.optim import adamw, learning_rate, set_rate
from tests.training.test_resume import DATA, changes, resumed, stopped  # noqa: F401
from tests.training.test_trainer import config, same, weights


def rates(total: int, **options: object) -> list[float]:
    train = TrainConfig(**options)  # type: ignore[arg-type]
    return [learning_rate(step, total=total, peak=1.0, train=train) for step in range(total)]


def test_linear_schedule_warms_up_to_the_peak_and_ends_just_above_nothing():
    found = rates(20, warmup_ratio=0.2)
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[-1] == pytest.approx(1 / 16)
    assert found[4:] == sorted(found[4:], reverse=True)


def test_cosine_schedule_is_half_way_down_in_the_middle():
    found = rates(100, warmup_ratio=0, schedule="cosine")
    assert (found[0], found[50]) == (1.0, pytest.approx(0.5))
    assert 0 < found[-1] < 0.001


def test_constant_schedule_stays_at_the_peak_after_warm_up():
    assert rates(10, warmup_ratio=0.1, schedule="constant") == [1.0] * 10


def test_inverse_sqrt_is_the_papers_schedule_with_a_peak_of_ones_own():
    steps = range(1, 101)
    paper = [512**-0.5 * min(step**-0.5, step * 25**-1.5) for step in steps]  # section 5.3
    found = rates(100, warmup_steps=25, schedule="inverse_sqrt")
    assert found == pytest.approx([rate / max(paper) for rate in paper])
    assert rates(4, warmup_ratio=0, schedule="inverse_sqrt")[:2] == [1.0, pytest.approx(0.5**0.5)]


def test_steps_of_warm_up_win_over_their_share():
    found = rates(20, warmup_steps=2, warmup_ratio=0.5)
    assert found[:3] == [0.5, 1.0, 1.0]
    assert rates(20, warmup_steps=0)[0] == 1.0


def test_betas_and_epsilon_are_the_optimizers():
    (group,) = adamw(torch.nn.Linear(2, 1, bias=False), TrainConfig()).param_groups
    assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)
    train = TrainConfig(betas=[0.5, 0.9], epsilon=1e-6)
    (group,) = adamw(torch.nn.Linear(2, 1, bias=False), train).param_groups
    assert (group["betas"], group["eps"]) == ((0.5, 0.9), 1e-6)


def test_warm_up_may_take_the_whole_run():
    assert rates(4, warmup_ratio=1.0) == [0.25, 0.5, 0.75, 1.0]


def test_vectors_embeddings_and_frozen_parameters_are_not_decayed():
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.Linear(3, 1), torch.nn.Embedding(5, 2)
    )
    model[1].weight.requires_grad_(False)
    decayed, plain = adamw(model, TrainConfig(weight_decay=0.1)).param_groups
    assert [p.shape for p in decayed["params"]] == [(3, 2)]
    assert [p.shape for p in plain["params"]] == [(3,), (1,), (5, 2)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert decayed["fused"]


class Table(torch.nn.Module):
    """Looks rows of a table up and adds them up; a row without weight has no gradient."""

    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(40, 8, sparse=sparse)
        self.scale = torch.nn.Parameter(torch.ones(8))

    def backward(self, rows: list[int], weights: list[float]) -> None:
        looked_up = self.table(torch.tensor(rows)) * self.scale
        (looked_up**2 * torch.tensor(weights)[:, None]).sum().backward()


STEPS = [
    ([3, 5, 3, 0, 39], [1.0, 2.0, 1.0, 0.0, 0.0]),
    ([7, 9], [1.0, 1e-25]),
    ([3, 20], [0.5, 1.0]),
]


def trained(sparse: bool, steps=STEPS, optimizer_state=None, weights=None) -> tuple[Table, AdamW]:
    table = Table(sparse=sparse)
    if weights:
        table.load_state_dict(weights)
    optimizer = adamw(table, TrainConfig(weight_decay=0.1))
    if optimizer_state:
        for parameter, moments in zip(table.parameters(), optimizer_state, strict=True):
            optimizer.state[parameter] = {key: value.clone() for key, value in moments.items()}
    set_rate(optimizer, 0.01)
    for rows, row_weights in steps:
        table.backward(rows, row_weights)
        Precision("fp32", "cpu").step(optimizer, 1.0, torch.zeros((), dtype=torch.float64))
    return table, optimizer


@pytest.mark.parametrize("more", [[], [(list(range(30)), [1.0] * 30), ([3], [1.0])]])
def test_rows_are_stepped_as_a_dense_step_would(more):
    rowwise, optimizer = trained(True, STEPS + more)
    dense, other = trained(False, STEPS + more)
    torch.testing.assert_close(rowwise.table.weight, dense.table.weight, rtol=1e-6, atol=1e-8)
    assert torch.equal(rowwise.scale, dense.scale)
    for key in ("step", "exp_avg", "exp_avg_sq"):
        mine, theirs = (
            each.state[table.table.weight][key]
            for each, table in ((optimizer, rowwise), (other, dense))
        )
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_in_which_no_row_has_a_gradient_moves_nothing(dtype, monkeypatch):
    monkeypatch.setattr(cpu_adamw, "_LARGE", 1)
    torch.set_default_dtype(dtype)
    try:
        table, _ = trained(True, [([0, 39], [0.0, 0.0])])
        assert torch.equal(table.table.weight, Table(sparse=True).table.weight)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_dense_gradient_in_between_reaches_every_row():
    found = []
    for sparse in (True, False):
        table, optimizer = trained(sparse, STEPS[:1])
        table.table.weight.sum().backward()
        Precision("fp32", "cpu").step(optimizer, 1.0, torch.zeros((), dtype=torch.float64))
        table.backward(*STEPS[1])
        Precision("fp32", "cpu").step(optimizer, 1.0, torch.zeros((), dtype=torch.float64))
        found.append(table.table.weight)
    torch.testing.assert_close(*found)


def test_micro_batches_add_up_to_no_more_rows_than_the_table_has(monkeypatch):
    monkeypatch.setattr(cpu_adamw, "_LARGE", 1)
    table, dense = Table(sparse=False), Table(sparse=False)
    use_sparse_gradients(table)
    for _ in range(9):
        for each in (table, dense):
            each.backward([3, 5, 3, 7, 11], [1.0, 2.0, 1.0, 3.0, 1.0])
    assert table.table.weight.grad._nnz() <= 40
    torch.testing.assert_close(table.table.weight.grad.to_dense(), dense.table.weight.grad)


def test_rows_that_had_no_gradient_are_left_alone():
    before = Table(sparse=True).table.weight
    after = trained(True)[0].table.weight
    moved = (before != after).any(dim=1).nonzero()[:, 0].tolist()
    assert set(moved) - {9} == {3, 5, 7, 20}


def test_rows_go_on_from_stored_moments_bit_for_bit():
    whole, known = trained(True)
    begun, optimizer = trained(True, STEPS[:2])
    state = [optimizer.state[parameter] for parameter in begun.parameters()]
    resumed, continued = trained(True, STEPS[2:], state, begun.state_dict())
    assert torch.equal(whole.table.weight, resumed.table.weight)
    (rows,), (again,) = known._rows.values(), continued._rows.values()
    assert rows.tolist() == again.tolist() == [3, 5, 7, 9, 20]  # of 9 only one moment is not 0


def test_clipping_is_torchs():
    table, optimizer = trained(False, STEPS[:1])
    other = Table(sparse=False)
    plain = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.0)
    other.backward(*STEPS[0])
    assert torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0) > 2
    plain.step()
    for key in ("exp_avg", "exp_avg_sq"):  # the step itself is nearly the same for any scale
        for one, two in zip(table.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(optimizer.state[one][key], plain.state[two][key])


def test_only_large_tables_that_nothing_shares_have_sparse_gradients(monkeypatch):
    monkeypatch.setattr(cpu_adamw, "_LARGE", 10)
    large, small, tied, by_count = (torch.nn.Embedding(rows, 2) for rows in (10, 9, 10, 10))
    by_count.scale_grad_by_freq = True
    head = torch.nn.Linear(2, 10)
    head.weight = tied.weight
    use_sparse_gradients(torch.nn.ModuleList([large, small, tied, by_count, head]))
    found = [each.sparse for each in (large, small, tied, by_count)]
    assert found == [True, False, False, False]


def test_a_run_with_sparse_gradients_is_resumed_bit_for_bit(tmp_path, changes, monkeypatch):  # noqa: F811
    stepped = []
    step_rows = AdamW._step_rows
    monkeypatch.setattr(AdamW, "_step_rows", lambda *given: stepped.append(step_rows(*given)))
    monkeypatch.setattr(cpu_adamw, "_LARGE", 1)
    changes["train"] |= {"batch_size": 1, "max_steps": 12}
    whole = nlpkit.train(config(**changes), data=DATA, out=tmp_path / "whole")
    stopped(tmp_path / "run", 5, **changes)
    assert same(weights(resumed(tmp_path / "run", **changes)), weights(whole))
    assert len(stepped) == 24
