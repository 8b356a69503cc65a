"""The decoder: what is next, from what came before alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit.nn import StepModule, summed_cross_entropy, worked_out
from nlpkit_strategies.data_parallel import SplitAndSum
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.layers import MultiHeadAttention, View, rotated, rotations
from nlpkit_transformer.model import Writer, build
from tests.strategies.test_data_parallel import replicate
from tests.transformer.test_transformer_model import perturb
from tests.transformer.torchs import stack_of

POSITIONS = pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
NORMS = pytest.mark.parametrize("norm", ["pre", "post"])
VOCABULARY = Vocabulary(size=50, max_length=24)


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def writer(seed=0, **options) -> Writer:
    """A decoder of 2 layers, whose every part matters."""
    torch.manual_seed(seed)
    small = {"layers": 2, "hidden": 16, "heads": 4, "dropout": 0.0}
    options = TransformerConfig(**{**small, **options})
    model = build(options, HeadSpec(level="next", size=50), VOCABULARY, weights=True)
    perturb(model)
    return model.eval()


def ids_of(rows=3, tokens=9, seed=1):
    return torch.randint(1, 50, (rows, tokens), generator=torch.Generator().manual_seed(seed))


@NORMS
def test_the_decoder_is_torchs_encoder_that_does_not_look_ahead(norm):
    model = writer(norm=norm)
    torchs, hidden = stack_of(model.decoder), torch.randn(3, 9, 16)
    ahead = torch.ones(9, 9, dtype=torch.bool).triu(1)
    expected = torchs(hidden, mask=ahead)
    assert (model.decoder(hidden, View(causal=True)) - expected).abs().max() < 1e-12
    narrow = [each.float() for each in (model.decoder, torchs, hidden)]
    found, expected = narrow[0](narrow[2], View(causal=True)), narrow[1](narrow[2], mask=ahead)
    assert (found - expected).abs().max() < 1e-6


@POSITIONS
def test_attention_is_the_papers_formula(positions):
    attention, hidden = MultiHeadAttention(16, 4, dropout=0.0), torch.randn(3, 9, 16)
    rotation = rotations(9, 4) if positions == "rotary" else None
    found = attention(hidden, View(causal=True, rotation_BTR=rotation))
    query, key, value = attention.qkv(hidden).unflatten(-1, (3, 4, 4)).unbind(2)
    mixed = torch.zeros(3, 9, 4, 4)
    for head in range(4):
        for place in range(9):
            scores = [
                (turned(query[:, place, head], place) * turned(key[:, at, head], at)).sum(-1)
                if positions == "rotary"
                else (query[:, place, head] * key[:, at, head]).sum(-1)
                for at in range(place + 1)
            ]
            weights = (torch.stack(scores, dim=-1) / math.sqrt(4)).softmax(dim=-1)
            mixed[:, place, head] = (weights[:, :, None] * value[:, : place + 1, head]).sum(1)
    assert (found - attention.out(mixed.flatten(2))).abs().max() < 1e-10


def turned(vector, position):
    """The block-diagonal matrix of Su et al. 2021, equation 15, whose pairs are (i, i + D/2)."""
    width = vector.shape[-1]
    matrix = torch.zeros(width, width)
    for i in range(width // 2):
        angle, j = position * 10000 ** (-2 * i / width), i + width // 2
        matrix[i, i] = matrix[j, j] = math.cos(angle)
        matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
    return vector @ matrix.T


def test_a_rotation_is_its_definition():
    part = torch.randn(2, 3, 7, 10)
    found = rotated(part, rotations(7, 10), 10)
    for position in range(7):
        expected = turned(part[:, :, position], position)
        assert (found[:, :, position] - expected).abs().max() < 1e-12


def test_rotated_queries_and_keys_meet_by_their_distance_alone():
    query, key = torch.randn(2, 1, 1, 1, 8)
    turns = rotations(30, 8)
    meet = [
        (rotated(query, turns[at : at + 1], 8) * rotated(key, turns[at - 4 : at - 3], 8)).sum()
        for at in (4, 11, 29)
    ]
    assert torch.stack(meet).std() < 1e-12


@POSITIONS
@NORMS
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_what_comes_later_changes_nothing(positions, norm, dropout):
    model, ids = writer(positions=positions, norm=norm, dropout=dropout).train(), ids_of()
    other = torch.cat([ids[:, :5], ids_of(seed=2)[:, 5:]], dim=1)
    mask = torch.ones_like(ids)
    found = []
    for each in (ids, other):
        torch.manual_seed(0)
        found.append(worked_out(model(each, mask)))
    assert torch.equal(found[0][:, :5], found[1][:, :5])
    assert not torch.isclose(found[0][:, 5:], found[1][:, 5:]).any()


@POSITIONS
def test_padding_on_the_right_changes_nothing(positions):
    model, ids = writer(positions=positions), ids_of()
    mask = (torch.arange(9) < torch.tensor([9, 4, 1])[:, None]).long()
    together = worked_out(model(ids * mask, mask))
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        alone = worked_out(model(ids[row : row + 1, :length], mask[row : row + 1, :length]))
        assert (together[row, :length] - alone[0]).abs().max() < 1e-12


@POSITIONS
def test_the_order_of_what_came_before_matters(positions):
    model = writer(positions=positions)
    found = [
        worked_out(model(torch.tensor([ids]), torch.ones(1, 4)))
        for ids in ([5, 6, 7, 8], [7, 6, 5, 8])
    ]
    assert not torch.allclose(found[0][:, -1], found[1][:, -1])


def test_positions_are_rotary_by_default_but_where_a_head_has_no_pairs():
    assert writer().embedding.rotary
    assert not writer(hidden=12).embedding.rotary
    with pytest.raises(ValueError, match="a head has 12 / 4, which is odd"):
        TransformerConfig(hidden=12, heads=4, positions="rotary")


PACKED = [[4, 3, 2], [1, 6]]
"""Tokens of the documents of two rows, of which the first has none to spare."""


def packed():
    """Document and position ids of PACKED; padding has document 0."""
    documents, positions = torch.zeros(2, 2, 9, dtype=torch.int64)
    for row, lengths in enumerate(PACKED):
        start = 0
        for number, length in enumerate(lengths, 1):
            documents[row, start : start + length] = number
            positions[row, start : start + length] = torch.arange(length)
            start += length
    return {"document_ids": documents, "position_ids": positions}


LEVELS = pytest.mark.parametrize("level", ["next", "token"])


def model_of(level, dtype, **options):
    torch.manual_seed(0)
    head = HeadSpec(level=level, size=50 if level == "next" else 5)
    options = TransformerConfig(
        **{"layers": 2, "hidden": 16, "heads": 4, "dropout": 0.0, **options}
    )
    model = build(options, head, VOCABULARY, weights=True)
    perturb(model)
    return model.to(dtype)


@LEVELS
@POSITIONS
@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_packed_document_is_what_it_is_alone(level, positions, dtype, least):
    model, ids, where = model_of(level, dtype, positions=positions), ids_of(rows=2), packed()
    mask = (where["document_ids"] > 0).long()
    together = worked_out(model(ids, mask, **where))
    blind = worked_out(model(ids, mask))
    for row, lengths in enumerate(PACKED):
        for number in range(1, len(lengths) + 1):
            own = where["document_ids"][row] == number
            alone = worked_out(model(ids[row, own][None], torch.ones(1, lengths[number - 1])))[0]
            assert (together[row, own] - alone).abs().max() < least
            if number > 1:
                assert (blind[row, own] - alone).abs().max() > 0.01


@LEVELS
@POSITIONS
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_documents_beside_it_change_no_bit_of_a_packed_one(level, positions, dropout, dtype):
    where = packed()
    mask, second = (where["document_ids"] > 0).long(), where["document_ids"] == 2
    ids = ids_of(rows=2)
    found, seen = [], list[torch.Tensor]()
    for others in (ids, torch.where(second, ids, ids_of(rows=2, seed=2))):
        model = model_of(level, dtype, positions=positions, dropout=dropout).train()
        model.embedding.tokens.register_forward_hook(lambda _, __, given: seen.append(given))
        torch.manual_seed(0)
        logits = worked_out(model(others, mask, **where))[second]
        (gradient,) = torch.autograd.grad(logits.square().sum(), seen[-1:])
        assert gradient[second].any(dim=-1).all()
        found.append((logits, gradient[second]))
        assert not gradient[~second].any()
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


class Next:
    """The loss of the words that follow."""

    def total(self, output, targets, rows):
        return summed_cross_entropy(output, targets["ids"])


@pytest.mark.parametrize("tied", [True, False])
def test_packed_rows_that_are_split_over_devices_have_the_gradient_of_all(tied):
    model, ids, where = writer(tied=tied), ids_of(rows=2), packed()
    inputs = {"input_ids": ids, "attention_mask": (where["document_ids"] > 0).long(), **where}
    step, targets = StepModule(model, Next(), HeadSpec(level="next", size=50)), {"ids": ids}
    found = []
    for module in (step, SplitAndSum(step, [torch.device("cpu")] * 2, replicate)):
        total = module(inputs, targets)
        total.sum().backward()
        found.append([total, *(each.grad for each in model.parameters())])
        model.zero_grad()
    for whole, split in zip(*found, strict=True):
        assert (whole - split).norm() < 1e-12 * whole.norm().clamp(min=1)


def test_every_parameter_gets_a_gradient():
    for tied in (True, False):
        model = writer(positions="learned", tied=tied)
        worked_out(model(ids_of(), torch.ones(3, 9))).square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_tied_table_is_read_and_written():
    tied, own = writer(), writer(tied=False)
    assert tied.output.table is tied.embedding.tokens.weight
    assert len(list(own.parameters())) == len(list(tied.parameters())) + 1
    ids, mask = ids_of(), torch.ones(3, 9)
    hidden = nn.functional.linear(worked_out(tied(ids, mask)), torch.linalg.pinv(tied.output.table))
    assert torch.allclose(hidden @ tied.embedding.tokens.weight.T, worked_out(tied(ids, mask)))
