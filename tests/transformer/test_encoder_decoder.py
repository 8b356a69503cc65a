"""Encoder and decoder together: what is written follows from the source, and from what is there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit.engine.generate import Steps
from nlpkit.nn import graphs_of, run_graph, worked_out
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.encoder_decoder import Translator
from nlpkit_transformer.layers import CrossAttention, View
from nlpkit_transformer.model import build
from tests.transformer.test_transformer_model import perturb
from tests.transformer.torchs import transformer_of

POSITIONS = pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
NORMS = pytest.mark.parametrize("norm", ["pre", "post"])
VOCABULARY = Vocabulary(size=50, max_length=24)
SOURCES, TARGETS = [7, 3, 5], [4, 6, 1]
"""Real tokens of each text; what follows is padding."""


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def translator(seed=0, **options) -> Translator:
    """An encoder of 2 layers and a decoder of 3, whose every part matters."""
    torch.manual_seed(seed)
    small = {"layers": 2, "decoder_layers": 3, "hidden": 16, "heads": 4, "dropout": 0.0}
    options = TransformerConfig(**{**small, **options})
    model = build(options, HeadSpec(level="target", size=50), VOCABULARY, weights=True)
    perturb(model)
    return model.eval()


def padded(lengths, seed):
    """Ids and mask, padded on the right."""
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(1, 50, mask.shape, generator=torch.Generator().manual_seed(seed))
    return ids * mask, mask


def texts():
    """Sources, their mask, targets, their mask."""
    return *padded(SOURCES, 1), *padded(TARGETS, 2)


@NORMS
@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_the_whole_is_torchs_transformer_with_padding_on_both_sides(norm, dtype, least):
    model = translator(norm=norm)
    torchs = transformer_of(model).to(dtype)
    model, (source, source_mask, target, target_mask) = model.to(dtype), texts()
    ahead = torch.ones(6, 6, dtype=torch.bool).triu(1)
    real = target_mask.bool()
    expected = torchs(
        model.embedding(source),
        model.embedding(target),
        tgt_mask=ahead,
        src_key_padding_mask=source_mask == 0,
        memory_key_padding_mask=source_mask == 0,
        tgt_key_padding_mask=~real,
    )
    found = model(source, source_mask, target)
    assert (found.hidden - expected)[real].abs().max() < least
    logits = expected @ model.embedding.tokens.weight.T
    scale = logits.abs().max()
    assert (found.logits() - logits)[real].abs().max() < least * scale


def test_cross_attention_is_the_papers_formula():
    torch.manual_seed(0)
    attention, hidden, source = CrossAttention(16, 4, dropout=0.0), *torch.randn(2, 3, 7, 16)
    mask = padded(SOURCES, 1)[1].bool()
    found = attention(hidden, View(source_B1S=mask[:, None]), attention.memory(source))
    key, value = attention.keys_and_values(source).unflatten(-1, (2, 4, 4)).unbind(2)
    query = attention.query(hidden).unflatten(-1, (4, 4))
    mixed = torch.zeros(3, 7, 4, 4)
    for row in range(3):
        for head in range(4):
            real = slice(SOURCES[row])
            scores = query[row, :, head] @ key[row, real, head].T / math.sqrt(4)
            mixed[row, :, head] = scores.softmax(dim=-1) @ value[row, real, head]
    assert (found - attention.out(mixed.flatten(2))).abs().max() < 1e-10


@POSITIONS
@NORMS
def test_padding_changes_nothing(positions, norm):
    model, (source, source_mask, target, _) = translator(positions=positions, norm=norm), texts()
    together = worked_out(model(source, source_mask, target))
    for row, (read, written) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        one = slice(row, row + 1)
        alone = worked_out(
            model(source[one, :read], source_mask[one, :read], target[one, :written])
        )
        assert (together[row, :written] - alone[0]).abs().max() < 1e-12


@POSITIONS
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_what_comes_later_changes_nothing_and_each_token_of_the_source_all(positions, dropout):
    model = translator(positions=positions, dropout=dropout).train()
    source, mask, target, _ = (each[:1] for each in texts())
    others = [(source, target.index_fill(1, torch.tensor([3]), 9))]
    others += [(source.index_fill(1, torch.tensor([at]), 9), target) for at in range(7)]
    found = []
    for read, written in [(source, target), *others]:
        torch.manual_seed(0)
        found.append(worked_out(model(read, mask, written))[0, :4])
    first, later, *by_source = found
    assert torch.equal(first[:3], later[:3])
    assert not torch.isclose(first[3], later[3]).any()
    for each in by_source:
        assert (first != each).any(dim=-1).all()


@POSITIONS
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_gets_a_gradient(positions, tied):
    model, (source, mask, target, _) = translator(positions=positions, tied=tied), texts()
    worked_out(model(source, mask, target)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    table = model.embedding.tokens.weight
    assert (model.output.table is table) == tied


def test_a_decoder_has_as_many_layers_as_an_encoder_where_nothing_is_said():
    assert len(translator(decoder_layers=None).decoder.layers) == 2
    assert not translator(positions=None).embedding.rotary


class Graphs:
    """An engine of the model's graphs that counts what runs."""

    def __init__(self, model):
        self.modules = graphs_of(model, None)
        self.graphs = {name: graph.spec for name, graph in self.modules.items()}
        self.runs = dict.fromkeys(self.graphs, 0)

    def run(self, inputs, graph="model"):
        self.runs[graph] += 1
        given = {
            name: torch.as_tensor(inputs[name]).to(
                torch.int64 if name.endswith(("ids", "mask")) else torch.float64
            )
            for name in self.graphs[graph].inputs
        }
        found = run_graph(self.modules[graph], given)
        return {name: each.detach().numpy() for name, each in found.items()}


@POSITIONS
def test_step_by_step_a_source_and_its_keys_are_worked_out_once(positions):
    model, (source, mask, target, _) = translator(positions=positions), texts()
    expected = worked_out(model(source, mask, target)).detach().numpy()
    engine, keys = Graphs(model), []
    for layer in model.decoder.layers:
        layer.cross_attention.keys_and_values.register_forward_hook(lambda *_: keys.append(1))
    steps = Steps(engine)
    steps.read({"input_ids": source.numpy(), "attention_mask": mask.numpy()})
    order = np.arange(3)
    for at in range(6):
        given = {"input_ids": target[order, at : at + 1], "attention_mask": np.ones((3, at + 1))}
        found = (steps.step if at else steps.start)(given)["logits"]
        assert np.abs(found[:, 0] - expected[order, at]).max() < 1e-12
        turned = np.array([2, 0, 0] if at == 1 else [0, 2, 1])  # one leaves, one is there twice
        steps.reorder(turned)
        order = order[turned]
    assert engine.runs == {"encoder": 1, "model": 6}
    assert len(keys) == 3
