"""Filling masks: transformers' own head at some places, and documents that share a row."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from nlpkit import ConfigError
from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit.projection import Projection, worked_out
from nlpkit_bert.config import BertOptions
from nlpkit_bert.heads import MaskedHead
from nlpkit_bert.model import build
from nlpkit_bert.resolve import resolve
from tests.bert.conftest import KINDS, saved

LENGTHS = [11, 3, 7, 1]
OTHERS = {
    "albert": {**KINDS["bert"], "embedding_size": 16},
    "camembert": KINDS["roberta"],
    "deberta-v2": {**KINDS["bert"], "type_vocab_size": 0},
    "mpnet": KINDS["roberta"],
}
"""Types that are tried."""


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def folder(tmp_path, kind):
    return saved(tmp_path / "tiny", kind)


def filling(folder, *, size=60, level="vocabulary", weights=True, **options):
    """A model for the vocabulary, or for tokens."""
    options = resolve(BertOptions(pretrained=str(folder), **options)).options
    over = "masked" if level == "vocabulary" else "input_ids"
    head, vocabulary = (
        HeadSpec(size=size, level=level, over=over),
        Vocabulary(size=size, max_length=20),
    )
    return build(options, head, vocabulary, weights=weights).eval()


def logits(model, *inputs, **beside):
    """What a model gives; over the vocabulary it leaves them to whoever needs them."""
    found = model(*inputs, **beside)
    assert isinstance(found, Projection) == isinstance(model.head, MaskedHead)
    return worked_out(found)


def random_ids(*shape, seed=1):
    return torch.randint(4, 60, shape, generator=torch.Generator().manual_seed(seed))


def texts(padding=0):
    """Ids and mask of four texts, and three places in each."""
    mask = (torch.arange(11) < torch.tensor(LENGTHS)[:, None]).long()
    masked = torch.tensor([[1, 5, 10], [0, 2, 0], [6, 3, 0], [0, 0, 0]])
    return random_ids(4, 11).where(mask.bool(), padding), mask, masked


def at(values, masked):
    return values.gather(1, masked[..., None].expand(-1, -1, values.shape[-1]))


def differing(tensors):
    """Numbers that make every parameter of a head differ from those it begins with."""
    torch.manual_seed(7)
    return {name: each + 0.1 * torch.randn_like(each) for name, each in tensors.items()}


def trained(folder, head="MaskedLM"):
    """transformers' model with other numbers everywhere, biases too, in the folder."""
    path = folder / "model.safetensors"
    save_file(differing(load_file(path)), path, metadata={"format": "pt"})
    auto = getattr(transformers, f"AutoModelFor{head}")
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


def equals_transformers(folder):
    theirs = trained(folder)
    model = filling(folder)
    inputs, mask, masked = texts(padding=theirs.config.pad_token_id)
    expected = at(theirs(input_ids=inputs, attention_mask=mask).logits, masked)
    found = logits(model, inputs, mask, masked)
    assert found.shape == (4, 3, 60)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    assert model.notes == (f"model.pretrained {folder}: its output head is used",)
    return model, theirs


@torch.no_grad()
def test_logits_and_loss_are_those_of_transformers(folder):
    model, theirs = equals_transformers(folder)
    inputs, mask, masked = texts(padding=theirs.config.pad_token_id)
    slots = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0]]).bool()
    rows = torch.arange(4)[:, None].expand(-1, 3)[slots]
    labels = torch.full_like(inputs, -100)
    labels[rows, masked[slots]] = inputs[rows, masked[slots]]
    loss = theirs(input_ids=inputs, attention_mask=mask, labels=labels).loss
    targets = inputs.gather(1, masked)
    ours = cross_entropy(logits(model, inputs, mask, masked)[slots], targets[slots])
    assert abs(ours - loss) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("kind", OTHERS)
def test_types_beside_these_are_taken_as_they_are(tmp_path, kind, monkeypatch):
    monkeypatch.setitem(KINDS, kind, OTHERS[kind])
    model, _ = equals_transformers(saved(tmp_path / "tiny", kind))
    inputs, mask, masked = texts()
    with pytest.raises(ConfigError, match=f'"{kind}" keeps the documents of a packed row apart'):
        model(inputs, mask, masked, document_ids=mask)


def packed(ids, lengths):
    """Documents in one row, and padding after them."""
    documents = torch.tensor([number for number, n in enumerate(lengths) for _ in range(n)])
    places = torch.tensor([place for n in lengths for place in range(n)])
    mask = torch.ones_like(documents)
    row = [torch.nn.functional.pad(each, (0, 2))[None] for each in (mask, documents, places)]
    ids = torch.nn.functional.pad(ids[0, : len(documents)], (0, 2), value=5)[None]
    return ids, row[0], {"document_ids": row[1], "position_ids": row[2]}


@torch.no_grad()
@pytest.mark.parametrize("level", ["vocabulary", "token"])
def test_documents_that_share_a_row_do_not_see_each_other(tmp_path, kind, level):
    trained(folder := saved(tmp_path / "tiny", kind))
    model, lengths = filling(folder, level=level), [5, 9, 1, 4]
    ids, mask, beside = packed(random_ids(1, 19), lengths)

    def run(ids, mask, **beside):
        types = mask.new_zeros(mask.shape)
        third = {"masked": torch.arange(ids.shape[1])[None], "token_type_ids": types}
        return logits(model, ids, mask, *(third[name] for name in model.inputs[2:]), **beside)

    together, sabotaged = run(ids, mask, **beside), run(ids, mask)
    start = 0
    for number, length in enumerate(lengths):
        own = slice(start, start + length)
        alone = run(ids[:, own], mask[:, own])
        assert torch.allclose(together[:, own], alone, rtol=0, atol=1e-5)
        assert not torch.allclose(sabotaged[:, own], alone, rtol=0, atol=1e-3)
        mine = beside["document_ids"] == number
        mine[:, -2:] = False
        others = run(ids.where(mine, random_ids(1, 21, seed=2)), mask, **beside)
        assert torch.equal(others[:, own], together[:, own])
        start += length


@torch.no_grad()
def test_ids_beyond_the_vocabulary_are_never_predicted(folder):
    inputs = texts()
    assert torch.equal(
        logits(filling(folder, size=50), *inputs), logits(filling(folder), *inputs)[..., :50]
    )


def test_every_parameter_gets_a_gradient_and_the_table_is_that_of_the_embeddings(folder):
    model = filling(folder).train()
    logits(model, *texts()).square().sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []
    output = model.head.network.get_output_embeddings()
    assert output.weight is model.bert.get_input_embeddings().weight


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_table_of_its_own_stays_one(tmp_path, kind):
    folder = saved(tmp_path / "tiny", kind, tie_word_embeddings=False)
    model, _ = equals_transformers(folder)
    output = model.head.network.get_output_embeddings().weight
    assert not torch.equal(output, model.bert.get_input_embeddings().weight)
    with torch.enable_grad():
        logits(model.train(), *texts()).square().sum().backward()
    learning = [each for each in model.parameters() if each.requires_grad]
    assert all(each.grad is not None for each in learning)


def test_a_table_that_the_config_denies_is_an_error(tmp_path):
    folder = saved(tmp_path / "tiny", "roberta", tie_word_embeddings=False)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": True}))
    with pytest.raises(ConfigError, match=r"lm_head\.decoder\.weight is not the table of the emb"):
        filling(folder)


@torch.no_grad()
@pytest.mark.parametrize("head", ["", "SequenceClassification"])
def test_a_folder_without_such_a_head_gets_a_new_one_and_that_is_said(tmp_path, kind, head):
    folder = saved(tmp_path / "tiny", kind, head=head)
    model = filling(folder)
    said = "it has no whole output head; a new one is made, tied to the embeddings"
    (note,) = model.notes
    assert note.startswith(f"model.pretrained {folder}: {said}")
    assert ("; left behind: " in note) == bool(head or kind in ("bert", "roberta", "xlm-roberta"))
    assert logits(model, *texts()).isfinite().all()
    (said,) = filling(folder, level="token").notes or ("left behind: nothing",)
    assert "left behind: " in said


def test_a_head_with_the_first_names_is_read(tmp_path):
    folder = saved(tmp_path / "tiny", "bert")
    trained(folder)
    expected, path = filling(folder).state_dict(), folder / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = load_file(path)
    for now, then in old.items():
        weights = {name.replace(now, then): each for name, each in weights.items()}
    save_file(weights, path)
    found = filling(folder).state_dict()
    assert "cls.predictions.transform.LayerNorm.gamma" in weights
    assert all(torch.equal(each, expected[name]) for name, each in found.items())


@torch.no_grad()
def test_minilm_has_no_such_head(minilm):
    model = filling(minilm, size=30522)
    (note,) = model.notes
    assert "it has no whole output head; a new one is made, tied" in note
    assert model(*texts()).shape == (4, 3, 30522)


@torch.no_grad()
def test_a_model_without_weights_takes_those_of_one_with(folder):
    model = filling(folder)
    options = resolve(BertOptions(pretrained=str(folder))).options
    shutil.rmtree(folder)
    rebuilt = filling(folder, weights=False, description=options.description)
    assert rebuilt.notes == ()
    rebuilt.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(logits(rebuilt, *texts()), logits(model, *texts()))
