from __future__ import annotations

import shutil

import pytest
import torch
import transformers

from nlpkit import ConfigError
from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit.dropout import Dropout, attention
from nlpkit_bert import model as bert_model
from nlpkit_bert.config import BertOptions
from nlpkit_bert.model import build
from nlpkit_bert.resolve import resolve

LENGTHS = [7, 3, 1]


def bert(folder, *, weights=True, size=60, head=None, **options):
    options = resolve(BertOptions(pretrained=str(folder), **options)).options
    vocabulary = Vocabulary(size=size, max_length=20)
    return build(options, head or HeadSpec(size=5), vocabulary, weights=weights).eval()


def texts():
    """Ids, mask and token types of three texts of 7, 3 and 1 tokens."""
    mask = (torch.arange(7) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(1, 60, (3, 7), generator=torch.Generator().manual_seed(1))
    return ids * mask, mask, (torch.arange(7) > 1).long() * mask


def test_hidden_states_are_those_of_auto_model(minilm):
    model = bert(minilm, size=30522)
    theirs = transformers.AutoModel.from_pretrained(minilm, dtype=torch.float32).eval()
    ids, mask, types = texts()
    seen = []
    model.head.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    model(ids, mask, types)
    expected = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
    assert torch.allclose(seen[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_changes_nothing(folder, pooling):
    model = bert(folder, pooling=pooling).double()
    inputs = texts()
    together = model(*inputs)
    for row, length in enumerate(LENGTHS):
        alone = model(*(each[row : row + 1, :length] for each in inputs))
        assert torch.allclose(together[row], alone[0], rtol=0, atol=1e-10)


def test_a_model_without_weights_takes_those_of_one_with(folder):
    trained = bert(folder)
    options = resolve(BertOptions(pretrained=str(folder))).options
    shutil.rmtree(folder)
    rebuilt = build(
        options, HeadSpec(size=5), Vocabulary(size=60, max_length=20), weights=False
    ).eval()
    assert not torch.allclose(rebuilt(*texts()), trained(*texts()))
    rebuilt.load_state_dict(trained.state_dict(), strict=True)
    assert torch.equal(rebuilt(*texts()), trained(*texts()))


def test_token_types_and_pooling_have_an_effect(folder):
    torch.manual_seed(0)
    model = bert(folder)
    ids, mask, types = texts()
    assert not torch.equal(model(ids, mask, types), model(ids, mask, torch.zeros_like(types)))
    torch.manual_seed(0)
    assert not torch.equal(model(ids, mask, types), bert(folder, pooling="cls")(ids, mask, types))


def test_dropout_is_the_pretrained_models_unless_it_is_given(folder):
    def rates(model):
        return {each.p for each in model.modules() if isinstance(each, torch.nn.Dropout)}

    assert rates(bert(folder)) == {0.1}
    assert rates(bert(folder, dropout=0.0)) == {0.0}
    quiet = bert(folder, dropout=0.0)
    assert torch.equal(quiet.train()(*texts()), quiet.eval()(*texts()))


def test_dropout_and_attention_are_the_cores(folder, monkeypatch):
    seen = []

    def seeing(*given, dropout, scale):
        seen.append(dropout)
        return attention(*given, dropout=dropout, scale=scale)

    monkeypatch.setattr(bert_model, "attention", seeing)
    model = bert(folder).train()
    model(*texts())
    kinds = {type(each) for each in model.modules() if isinstance(each, torch.nn.Dropout)}
    assert kinds == {Dropout}
    assert seen == [0.1] * model.bert.config.num_hidden_layers


@pytest.mark.parametrize("level", ["sequence", "token"])
@pytest.mark.parametrize("freeze", [[], ["embeddings", "0-1"], [1]])
def test_what_is_not_frozen_gets_a_gradient(folder, level, freeze):
    model = bert(folder, head=HeadSpec(size=5, level=level), freeze=freeze).train()
    model(*texts()).square().sum().backward()
    for parameter in model.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad


def test_freezing_embeddings_and_layers_stops_just_these(folder):
    model = bert(folder, freeze=["embeddings", 0, "2-2"])
    learning = {name for name, each in model.named_parameters() if each.requires_grad}
    frozen = {name for name, _ in model.named_parameters()} - learning
    prefixes = ("bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.2.")
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(prefixes)}
    assert frozen


def test_a_tokenizer_with_more_ids_than_the_model_is_an_error(folder):
    with pytest.raises(
        ConfigError, match="the tokenizer gives 61 different ids, the model knows 60"
    ):
        bert(folder, size=61)


def test_building_and_calling_is_silent(folder, capfd):
    bert(folder).train()(*texts())
    assert capfd.readouterr() == ("", "")


def test_a_traced_graph_takes_other_shapes(folder):
    model = bert(folder)
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    graph = torch.export.export(model, texts(), dynamic_shapes=[shape] * 3).module()
    ids = torch.randint(1, 60, (5, 11))
    mask = (torch.arange(11) < torch.tensor([11, 1, 4, 9, 2])[:, None]).long()
    inputs = ids, mask, torch.zeros_like(ids)
    assert torch.allclose(graph(*inputs), model(*inputs), rtol=0, atol=1e-6)
