"""Losses over a vocabulary in parts: torch's numbers, and never all logits at once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nlpkit import PluginError, projection
from nlpkit.contracts import Codec, HeadSpec, Vocabulary
from nlpkit.nn import Projection, StepModule, graphs_of, place_scores, summed_cross_entropy

WORDS, HIDDEN = 23, 6


@pytest.fixture(params=[1, 100, 10_000], ids=lambda logits: f"{logits} logits at a time")
def _logits(request, monkeypatch):
    monkeypatch.setattr(projection, "_LOGITS", request.param)


def made(dtype=torch.float64, *, bias=True, counted=0.7):
    """Hidden states, table and bias, and words of which some do not count."""
    random = torch.Generator().manual_seed(3)
    shapes = [(4, 5, HIDDEN), (WORDS, HIDDEN), (WORDS,)]
    tensors = [torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes]
    ids = torch.randint(0, WORDS, (4, 5), generator=random)
    ids[torch.rand(4, 5, generator=random) > counted] = -100
    leaves = [each.to(dtype).requires_grad_() for each in tensors]
    return (*leaves[:2], leaves[2] if bias else None), ids


def plain(hidden, table, bias, ids, smoothing=0.0):
    logits = functional.linear(hidden, table, bias)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return functional.cross_entropy(
        wide.flatten(0, 1), ids.flatten(), label_smoothing=smoothing, reduction="sum"
    )


def gradients(loss: Tensor, tensors) -> Tensor:
    found = torch.autograd.grad(3 * loss, [each for each in tensors if each is not None])
    return torch.cat([each.flatten() for each in found])


def apart(one: Tensor, other: Tensor) -> float:
    return float(((one - other).norm() / other.norm()).detach())


@pytest.mark.usefixtures("_logits")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_loss_and_gradients_are_torchs(smoothing, bias, dtype, most):
    tensors, ids = made(dtype, bias=bias)
    found = summed_cross_entropy(Projection(*tensors), ids, smoothing=smoothing)
    expected = plain(*tensors, ids, smoothing)
    assert found.dtype == expected.dtype
    assert apart(found, expected) < most
    assert apart(gradients(found, tensors), gradients(expected, tensors)) < most


@pytest.mark.usefixtures("_logits")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_they_are_as_near_to_float32s_as_torchs_are(dtype):
    tensors, ids = made(torch.float32)
    exact = gradients(plain(*tensors, ids), tensors)
    with torch.autocast("cpu", dtype):
        found, expected = summed_cross_entropy(Projection(*tensors), ids), plain(*tensors, ids)
    assert found.dtype == torch.float32
    assert apart(found, expected) < 1e-6
    found, expected = gradients(found, tensors), gradients(expected, tensors)
    assert found.dtype == torch.float32
    assert apart(found, exact) < 1.2 * apart(expected, exact)
    assert 0 < apart(expected, exact) < 0.02


def test_16_bit_hidden_states_get_a_16_bit_gradient():
    tensors, ids = made(torch.bfloat16)
    found = summed_cross_entropy(Projection(*tensors), ids)
    assert found.dtype == torch.float32
    gradient = torch.autograd.grad(found, tensors)
    assert {each.dtype for each in gradient} == {torch.bfloat16}
    wide = [each.detach().double().requires_grad_() for each in tensors]
    assert (
        apart(
            torch.cat([each.double().flatten() for each in gradient]),
            gradients(plain(*wide, ids), wide) / 3,
        )
        < 0.01
    )


def test_a_table_that_is_read_too_gets_both_gradients():
    (_, table, bias), ids = made()
    words = torch.randint(0, WORDS, (4, 5))
    found = summed_cross_entropy(Projection(table[words], table, bias), ids)
    expected = plain(table[words], table, bias, ids)
    assert apart(gradients(found, [table]), gradients(expected, [table])) < 1e-12


def test_what_is_frozen_gets_no_gradient():
    (hidden, table, bias), ids = made()
    total = summed_cross_entropy(Projection(hidden, table.detach(), bias), ids)
    total.backward()
    assert table.grad is None
    assert (
        apart(hidden.grad, gradients(plain(hidden, table, bias, ids), [hidden]).view_as(hidden) / 3)
        < 1e-12
    )


def test_where_no_word_counts_the_loss_and_its_gradients_are_0():
    tensors, ids = made(counted=0.0)
    loss = summed_cross_entropy(Projection(*tensors), ids)
    assert loss.item() == 0
    assert not gradients(loss, tensors).any()
    assert not place_scores(Projection(*tensors), ids).any()


def test_ignored_places_cost_nothing(monkeypatch):
    worked_on = []
    parts = projection._parts

    def counted(hidden, *others):
        worked_on.append(len(hidden))
        return parts(hidden, *others)

    monkeypatch.setattr(projection, "_parts", counted)
    tensors, ids = made(counted=0.4)
    summed_cross_entropy(Projection(*tensors), ids)
    place_scores(Projection(*tensors), ids)
    assert worked_on == [int((ids >= 0).sum())] * 2
    assert worked_on[0] < ids.numel()


def test_another_number_may_stand_where_no_word_counts():
    tensors, ids = made()
    other = ids.where(ids >= 0, 0)
    other[0, 0] = 5
    counted = other.where(other != 0, -100)
    found = summed_cross_entropy(Projection(*tensors), other, ignore=0)
    assert apart(found, plain(*tensors, counted)) < 1e-12


@pytest.mark.usefixtures("_logits")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_metrics_get_the_loss_of_each_place_and_whether_its_word_is_the_likeliest(smoothing):
    tensors, ids = made()
    ids[1, 2] = functional.linear(*tensors)[1, 2].argmax()
    logits = functional.linear(*tensors).flatten(0, 1)
    losses = functional.cross_entropy(
        logits, ids.flatten(), label_smoothing=smoothing, reduction="none"
    )
    right = (logits.argmax(-1) == ids.flatten()).to(losses.dtype)
    expected = torch.stack([losses, right], dim=-1).view(4, 5, 2)
    assert 0 < right.sum() < right.numel()
    for output in (Projection(*tensors), functional.linear(*tensors)):
        found = place_scores(output, ids, smoothing=smoothing)
        assert not found.requires_grad
        torch.testing.assert_close(found, expected.detach(), atol=1e-12, rtol=0)
        with torch.no_grad():
            total = summed_cross_entropy(output, ids, smoothing=smoothing)
        assert apart(total, losses.sum()) < 1e-12


def test_logits_may_be_given_as_they_are():
    tensors, ids = made()
    logits = functional.linear(*tensors)
    found = summed_cross_entropy(logits, ids, smoothing=0.1)
    assert torch.equal(found, plain(*tensors, ids, 0.1))
    assert summed_cross_entropy(logits.bfloat16(), ids).dtype == torch.float32


class Words(nn.Module):
    """A model of one table."""

    def __init__(self, words=WORDS):
        super().__init__()
        self.table = nn.Embedding(words, HIDDEN)

    def forward(self, input_ids):
        return Projection(self.table(input_ids), self.table.weight)


class Loss:
    def total(self, output, targets, rows):
        return summed_cross_entropy(output, targets["ids"])


def test_a_step_takes_a_projection_of_the_shape_that_the_task_wants():
    torch.manual_seed(0)
    model, ids = Words(), torch.randint(0, WORDS, (4, 5))
    head = HeadSpec(level="next", size=WORDS)
    total = StepModule(model, Loss(), head)({"input_ids": ids}, {"ids": ids})
    expected = plain(model.table(ids), model.table.weight, None, ids)
    assert total.shape == (1,)
    assert total.item() == pytest.approx(expected.item())
    with pytest.raises(
        PluginError, match=r"Words gave \[4, 5, 9\] of torch.float32; .*\[4, 5, 23\]"
    ):
        StepModule(Words(9), Loss(), head).logits({"input_ids": ids % 9})


def test_a_graph_gives_logits():
    codec, model = Codec({}, Vocabulary(size=WORDS, max_length=5)), Words()
    codec.head = HeadSpec(level="next", size=WORDS)
    graph, ids = graphs_of(model, codec)["model"], torch.randint(0, WORDS, (4, 5))
    assert graph.spec.outputs == {"logits": ("rows", "tokens", WORDS)}
    assert torch.equal(graph.module(ids), model(ids).logits())


MEASURED = """
import json, re, sys, time
from pathlib import Path
import torch
from torch.nn import functional
from nlpkit.nn import Projection, summed_cross_entropy

torch.manual_seed(0)
way, places, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
hidden = torch.randn(places, 64, requires_grad=True)
table = (torch.randn(50_257, 64) / 8).requires_grad_()
ids = torch.randint(0, 50_257, (places,))


def kilobytes(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])


def loss():
    if way == "parts":
        return summed_cross_entropy(Projection(hidden, table), ids)
    return functional.cross_entropy(functional.linear(hidden, table), ids, reduction="sum")


def step():
    hidden.grad = table.grad = None
    started = time.process_time()
    loss().backward()
    return time.process_time() - started


small = Projection(hidden[:2], table)  # what a first call loads is no part of it
summed_cross_entropy(small, ids[:2]).backward()
functional.linear(hidden[:2], table).sum().backward()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the high-water mark begins anew: a child has its parent's at first
before = kilobytes("VmRSS")
seconds = min(step() for _ in range(int(sys.argv[4])))
print(json.dumps({"bytes": 1024 * (kilobytes("VmHWM") - before), "seconds": seconds}))
"""


def measured(way: str, places: int, times: int = 1) -> dict[str, float]:
    command = [sys.executable, "-c", MEASURED, way, str(places), "2", str(times)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("places", [2_048, 8_192, 32_768])
def test_memory_does_not_grow_with_places_times_words(places):
    own = 4 * 64 * (places + 50_257)  # hidden states' gradient, and the table's
    assert measured("parts", places)["bytes"] - own < 0.3e9


@pytest.mark.slow
def test_it_takes_no_longer_than_the_plain_way():
    plainly, parts = (measured(way, 2_048, times=3) for way in ("plain", "parts"))
    assert plainly["bytes"] > 1e9
    assert parts["seconds"] < 1.15 * plainly["seconds"]
