from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from nlpkit.cpu import attention as cpu_attention
from nlpkit.cpu.dropout import Masks
from nlpkit.dropout import Dropout, attention, use_fast_dropout


def test_dropout_zeroes_the_share_and_keeps_the_mean():
    torch.manual_seed(1)
    found = Dropout(0.1)(torch.ones(400, 500))
    assert (found == 0).double().mean().item() == pytest.approx(0.1, abs=0.003)
    assert found.mean().item() == pytest.approx(1, abs=0.004)
    assert len(found.unique()) == 2


@pytest.mark.parametrize("shape", [(3, 5), (1,), (0, 4), ()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_any_shape_and_type_stays(shape, dtype):
    found = Dropout(0.5)(torch.ones(shape, dtype=dtype))
    assert (found.shape, found.dtype) == (shape, dtype)
    assert set(found.flatten().tolist()) <= {0.0, 2.0}


def test_masks_come_from_the_generator_of_torch_and_each_is_another():
    layer, values = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(3)
    first, second = layer(values), layer(values)
    torch.manual_seed(3)
    assert torch.equal(layer(values), first)
    assert not torch.equal(first, second)
    assert (first * second).count_nonzero().item() == pytest.approx(250, abs=60)


def test_the_gradient_passes_where_the_value_did():
    values = torch.ones(30, 40, requires_grad=True)
    found = Dropout(0.3)(values)
    (found * 2).sum().backward()
    assert torch.equal(values.grad, 2 * found)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_at_the_ends_are_torchs(rate):
    assert torch.equal(Dropout(rate)(torch.ones(3)), torch.full((3,), 1 - rate))


def test_evaluation_drops_nothing():
    layer, values = Dropout(0.5).eval(), torch.ones(3)
    assert layer(values) is values


def test_every_dropout_inside_a_module_is_exchanged_and_no_other_one():
    module = nn.Sequential(nn.Dropout(0.3), nn.Sequential(nn.Dropout(0.4), nn.Dropout1d(0.5)))
    use_fast_dropout(module)
    kinds = [(type(each), each.p) for each in module.modules() if hasattr(each, "p")]
    assert kinds == [(Dropout, 0.3), (Dropout, 0.4), (nn.Dropout1d, 0.5)]


def parts(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Query, key and value of 3 samples with 2 heads, laid out as a model does."""
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randn(3, 7, 2, 4, dtype=torch.float64, generator=generator)
        .to(dtype)
        .transpose(1, 2)
        .requires_grad_()
        for _ in range(3)
    ]


def mask(*lengths: int) -> torch.Tensor:
    return (torch.arange(7) < torch.tensor(lengths)[:, None])[:, None, None, :]


MASKS = {
    "none": None,
    "nothing is padding": mask(7, 7, 7),
    "padding": mask(7, 1, 4),
    "each query's own": mask(7, 3, 4) | torch.eye(7, dtype=torch.bool),
}


@pytest.fixture(params=[1, 100, 10_000], ids=lambda scores: f"{scores} scores at a time")
def block(request, monkeypatch):
    monkeypatch.setattr(cpu_attention, "_BLOCK", request.param)


@pytest.mark.parametrize("name", MASKS)
def test_attention_is_that_of_a_plain_one_with_the_same_mask(name, block, monkeypatch):
    drawn = []
    fill = Masks.fill

    def kept(self, out):
        drawn.append(fill(self, out).clone())
        return out

    monkeypatch.setattr(Masks, "fill", kept)
    own, plain = parts(), parts()
    found = attention(*own, MASKS[name], dropout=0.25)
    forward, _ = torch.cat(drawn).view(3, 2, 7, 7), drawn.clear()
    query, key, value = plain
    scores = query @ key.mT / 2
    if MASKS[name] is not None:
        scores = scores.masked_fill(~MASKS[name], -torch.inf)
    wanted = (scores.softmax(-1) * forward / 0.75) @ value
    torch.testing.assert_close(found, wanted)

    direction = torch.randn(found.shape, dtype=torch.float64)
    found.backward(direction)
    wanted.backward(direction)
    assert torch.equal(torch.cat(drawn).view(3, 2, 7, 7), forward)  # drawn again
    for one, other in zip(own, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_attention_without_dropout_is_torchs():
    found = attention(*parts(), MASKS["padding"], dropout=0.0)
    wanted = functional.scaled_dot_product_attention(*parts(), attn_mask=MASKS["padding"])
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_causal_attention_is_that_of_a_mask_which_hides_what_comes_later(dropout):
    found = []
    for hidden in ({"mask": None, "causal": True}, {"mask": torch.ones(1, 1, 7, 7).bool().tril()}):
        torch.manual_seed(2)
        given = parts()
        output = attention(*given, **hidden, dropout=dropout)
        output.square().sum().backward()
        found.append([output, *(part.grad for part in given)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_text_without_a_token_gives_numbers():
    given = parts()
    found = attention(*given, mask(7, 0, 3), dropout=0.5)
    found.sum().backward()
    assert all(each.isfinite().all() for each in (found, *(part.grad for part in given)))
    assert attention(*(part[:, :, :0] for part in parts()), None, dropout=0.5).shape == (3, 2, 0, 4)


def test_its_gradient_is_that_of_finite_differences():
    def seeded(*given):
        torch.manual_seed(2)
        return attention(*given, MASKS["padding"], dropout=0.5)

    assert torch.autograd.gradcheck(seeded, parts())


def test_in_16_bits_it_is_near_the_wide_one_and_gives_16_bits():
    torch.manual_seed(2)
    wide = attention(*parts(torch.float32), MASKS["padding"], dropout=0.5)
    torch.manual_seed(2)
    narrow = parts(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(*narrow, MASKS["padding"], dropout=0.5)
    found.sum().backward()
    assert {found.dtype, *(part.grad.dtype for part in narrow)} == {torch.bfloat16}
    torch.testing.assert_close(found.float(), wide, atol=0.05, rtol=0.05)


def test_less_is_kept_for_the_backward_pass_than_by_torch():
    """Of attention, torch keeps the softmax, the mask and what is left of the softmax."""

    def kept(attend):
        given = [torch.randn(4, 2, 64, 8, requires_grad=True) for _ in range(3)]
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda each: sizes.append(each.numel() * each.element_size()) or each, lambda each: each
        ):
            attend(*given)
        return sum(sizes)

    own = kept(partial(attention, mask=None, dropout=0.1))
    assert own < 0.7 * kept(partial(functional.scaled_dot_product_attention, dropout_p=0.1))
