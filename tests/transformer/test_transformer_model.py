from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch.export import Dim
from torch.nn.functional import cross_entropy

from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.layers import MultiHeadAttention, View, sinusoids
from nlpkit_transformer.model import Reader, build
from tests.transformer.torchs import stack_of

SMALL = {"layers": 2, "hidden": 16, "heads": 4, "dropout": 0.0}
VOCABULARY = Vocabulary(size=50, max_length=12)
LENGTHS = [7, 3, 1]


def small(seed=0, head=None, **options) -> Reader:
    torch.manual_seed(seed)
    head = head or HeadSpec(size=5)
    model = build(TransformerConfig(**{**SMALL, **options}), head, VOCABULARY, weights=True)
    return model.double().eval()


def texts():
    """Ids and mask of three texts of 7, 3 and 1 tokens."""
    mask = (torch.arange(7) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    return ids * mask, mask


def test_attention_is_the_papers_formula():
    torch.manual_seed(0)
    attention = MultiHeadAttention(16, 4, dropout=0.0).double()
    hidden, mask = torch.randn(3, 7, 16, dtype=torch.float64), texts()[1].bool()
    width = 4
    heads = []
    for head in range(4):
        rows = torch.arange(head * width, (head + 1) * width)
        query, key, value = (
            hidden @ attention.qkv.weight[part + rows].T + attention.qkv.bias[part + rows]
            for part in (0, 16, 32)
        )
        scores = query @ key.transpose(1, 2) / math.sqrt(width)
        scores = scores.masked_fill(~mask[:, None, :], -math.inf)
        heads.append(scores.softmax(dim=-1) @ value)
    expected = torch.cat(heads, dim=-1) @ attention.out.weight.T + attention.out.bias
    found = attention(hidden, View(mask_BTS=mask[:, None]))
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_encoder_is_torchs_transformer_encoder(norm):
    model = small(norm=norm)
    perturb(model.encoder)
    hidden, mask = torch.randn(3, 7, 16, dtype=torch.float64), texts()[1].bool()
    expected = stack_of(model.encoder)(hidden, src_key_padding_mask=~mask)
    given = model.encoder(hidden, View(mask_BTS=mask[:, None]))
    assert (given - expected)[mask].abs().max() < 1e-10


def perturb(module):
    """Biases and norms away from 0 and 1, so that a mixed-up one shows."""
    for parameter in module.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("hidden", [6, 7])
def test_sinusoids_are_the_papers_formula(hidden):
    table = sinusoids(9, hidden)
    for position in range(9):
        for column in range(hidden):
            angle = position / 10000 ** (2 * (column // 2) / hidden)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert table[position, column].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_an_embedding_is_the_scaled_token_plus_its_position(positions):
    embedding, ids = small(positions=positions).embedding, texts()[0]
    expected = 4 * embedding.tokens.weight[ids] + embedding.positions[None, :7]  # 4 = √16
    assert torch.allclose(embedding(ids), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_changes_nothing(positions, norm, pooling):
    model = small(positions=positions, norm=norm, pooling=pooling)
    ids, mask = texts()
    together = model(ids, mask)
    for row, length in enumerate(LENGTHS):
        alone = model(ids[row : row + 1, :length], mask[row : row + 1, :length])
        assert torch.allclose(together[row], alone[0], rtol=0, atol=1e-10)


def test_a_head_for_tokens_gives_logits_for_each_token():
    assert small(head=HeadSpec(size=9, level="token"))(*texts()).shape == (3, 7, 9)


@pytest.mark.parametrize("tied", [True, False])
def test_words_are_scored_at_the_places_that_are_named(tied):
    model = small(head=HeadSpec(level="vocabulary", size=50, over="masked"), tied=tied)
    (ids, mask), places = texts(), torch.tensor([[6, 0, 3], [2, 0, 0], [0, 0, 0]])
    assert model.inputs == ("input_ids", "attention_mask", "masked")
    hidden = model.encoder(model.embedding(ids), View(mask_BTS=mask.bool()[:, None]))
    table = model.embedding.tokens.weight if tied else model.output.table
    logits = model(ids, mask, places).logits()
    for row, slot in product(range(3), range(3)):
        expected = table @ hidden[row, places[row, slot]]
        assert torch.allclose(logits[row, slot], expected, rtol=0, atol=1e-12)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    alone = model(ids[1:2, :3], mask[1:2, :3], places[1:2]).logits()
    assert torch.allclose(alone[0], logits[1], rtol=0, atol=1e-12)


def test_the_order_of_words_matters():
    model, ids = small(), torch.tensor([[5, 6, 7], [7, 6, 5]])
    first, second = model(ids, torch.ones_like(ids))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(
    "option",
    [
        {"positions": "learned"},
        {"positions": "rotary"},
        {"norm": "post"},
        {"pooling": "cls"},
        {"layers": 3},
        {"heads": 2},
        {"hidden": 32},
        {"feed_forward": 24},
    ],
)
def test_each_option_has_an_effect(option):
    assert not torch.allclose(small()(*texts()), small(**option)(*texts()))


def test_dropout_has_an_effect_in_training_only():
    model = small(dropout=0.5)
    assert torch.equal(model(*texts()), small()(*texts()))
    assert not torch.equal(model.train()(*texts()), small()(*texts()))


def test_the_default_feed_forward_is_four_times_as_wide():
    assert small(hidden=32).encoder.layers[0].feed_forward[0].out_features == 128


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("level", ["sequence", "token"])
def test_every_parameter_gets_a_gradient(positions, norm, level):
    model = small(positions=positions, norm=norm, head=HeadSpec(size=5, level=level))
    model(*texts()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_positions_without_parameters_are_not_saved():
    assert "embedding.positions" not in small().state_dict()
    assert "embedding.positions" in small(positions="learned").state_dict()


def test_a_traced_graph_takes_other_shapes():
    model = small()
    shape = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    graph = torch.export.export(model, texts(), dynamic_shapes=[shape, shape]).module()
    ids = torch.randint(1, 50, (5, 11))
    mask = (torch.arange(11) < torch.tensor([11, 1, 4, 9, 2])[:, None]).long()
    assert torch.allclose(graph(ids, mask), model(ids, mask), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_few_texts_are_learned_by_heart(norm):
    model = small(norm=norm).float().train()
    ids = torch.randint(1, 50, (20, 9))
    labels, mask = torch.arange(20) % 5, torch.ones_like(ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(model(ids, mask), labels).backward()
        optimizer.step()
    assert cross_entropy(model(ids, mask), labels).item() < 0.05
