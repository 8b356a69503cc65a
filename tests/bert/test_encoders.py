"""Each type of encoder: law 1 under padding and splitting, positions, types of tokens, freezing."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers

from nlpkit import ConfigError
from nlpkit.contracts import HeadSpec, Vocabulary
from nlpkit_bert.config import BertOptions
from nlpkit_bert.model import build
from nlpkit_bert.resolve import DESCRIBING, LEFT_BEHIND, TYPES, resolve
from tests.bert.conftest import KINDS, ROUND, saved

LENGTHS = [11, 3, 7, 1]
OTHERS = ("albert", "camembert", "deberta-v2", "mpnet")
TYPED = ("bert", "electra")


@pytest.fixture(params=ROUND)
def kind(request) -> str:
    return request.param


@pytest.fixture
def folder(tmp_path, kind):
    return saved(tmp_path / "tiny", kind)


def model_of(folder, *, weights=True, **options):
    options = resolve(BertOptions(pretrained=str(folder), **options)).options
    head, vocabulary = HeadSpec(size=5), Vocabulary(size=60, max_length=20)
    return build(options, head, vocabulary, weights=weights).eval()


def texts(model, padding=0):
    """Inputs of four texts of 11, 3, 7 and 1 tokens."""
    mask = (torch.arange(11) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(4, 60, (4, 11), generator=torch.Generator().manual_seed(1))
    types = (torch.arange(11) > 1).long() * mask
    given = {"input_ids": ids.where(mask.bool(), padding), "attention_mask": mask}
    given["token_type_ids"] = types
    return {name: given[name] for name in model.inputs}


def alone(inputs, row):
    return [each[row : row + 1, : LENGTHS[row]] for each in inputs.values()]


def test_all_that_are_named_are_tested():
    assert sorted(KINDS) == sorted(TYPES)


def test_hidden_states_are_those_of_auto_model(folder):
    model = model_of(folder)
    theirs = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    seen = []
    model.head.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    model(*texts(model).values())
    inputs = texts(model, padding=model.bert.config.pad_token_id)
    expected = theirs(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    assert torch.allclose(seen[0][real], expected[real], rtol=0, atol=1e-6)


OLDER = {
    "modernbert": {
        "global_attn_every_n_layers": 2,
        "global_rope_theta": 150_000.0,
        "local_rope_theta": 9_000.0,
        "layer_types": None,
        "rope_parameters": None,
        "position_embedding_type": "absolute",
    },
    "distilbert": {"tie_weights_": True, "torch_dtype": "float16"},
    "xlm-roberta": {"output_past": True, "transformers_version": "4.17.0.dev0"},
}
"""Keys of config.json that older versions wrote."""


@pytest.mark.parametrize("older", [False, True])
def test_the_configuration_is_that_of_auto_config(folder, kind, older):
    path = folder / "config.json"
    if older:
        path.write_text(json.dumps(json.loads(path.read_text()) | OLDER.get(kind, {})))
    ours = model_of(folder, weights=False).bert.config.to_dict()
    theirs = transformers.AutoConfig.from_pretrained(folder).to_dict()
    shaping = {*(DESCRIBING if kind == "bert" else theirs)} - {*LEFT_BEHIND, "_name_or_path"}
    assert {key: ours[key] for key in shaping} == {key: theirs[key] for key in shaping}
    assert len(shaping) > 10


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_changes_nothing_whatever_its_ids(folder, pooling):
    model = model_of(folder, pooling=pooling).double()
    for padding in (0, 3, 59):
        inputs = texts(model, padding)
        together = model(*inputs.values())
        for row in range(len(LENGTHS)):
            single = model(*alone(inputs, row))
            assert torch.allclose(together[row], single[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 3])
def test_the_gradient_does_not_depend_on_the_micro_batch(folder, size):
    model = model_of(folder, dropout=0.0).double().train()

    def gradient(inputs, parts):
        model.zero_grad()
        for rows in parts:
            model(*(each[rows] for each in inputs.values())).square().sum().backward()
        return torch.cat([each.grad.flatten() for each in model.parameters()])

    inputs = texts(model)
    whole = gradient(inputs, [slice(None)])
    split = gradient(inputs, [slice(at, at + size) for at in range(0, len(LENGTHS), size)])
    assert whole.norm() > 0.1
    assert (whole - split).norm() / whole.norm() < 1e-10


def test_every_parameter_gets_a_gradient(folder):
    model = model_of(folder).train()
    model(*texts(model).values()).square().sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


def test_the_longest_input_has_positions_and_a_longer_one_has_none(folder, kind):
    model = model_of(folder)
    longest = resolve(BertOptions(pretrained=str(folder))).max_length

    def run(length):
        ids = torch.full((1, length), 5)
        return model(*(ids if name == "input_ids" else ids // 5 for name in model.inputs[:2]))

    assert torch.isfinite(run(longest)).all()
    if kind != "modernbert":  # its rotations have no end; that of its training is the limit
        with pytest.raises((IndexError, RuntimeError)):
            run(longest + 1)


def test_token_types_are_taken_where_there_are_some(folder, kind):
    model = model_of(folder)
    inputs = texts(model)
    assert ("token_type_ids" in inputs) == (kind in TYPED)
    if kind in TYPED:
        without = {**inputs, "token_type_ids": torch.zeros_like(inputs["input_ids"])}
        assert not torch.equal(model(*inputs.values()), model(*without.values()))


def test_a_model_without_weights_takes_those_of_one_with(folder):
    trained = model_of(folder)
    options = resolve(BertOptions(pretrained=str(folder))).options
    plain = BertOptions(**json.loads(json.dumps(options.model_dump(mode="json"))))
    shutil.rmtree(folder)
    head, vocabulary = HeadSpec(size=5), Vocabulary(size=60, max_length=20)
    rebuilt = build(plain, head, vocabulary, weights=False).eval()
    inputs = texts(rebuilt).values()
    assert not torch.allclose(rebuilt(*inputs), trained(*inputs))
    rebuilt.load_state_dict(trained.state_dict(), strict=True)
    assert torch.equal(rebuilt(*inputs), trained(*inputs))


def test_freezing_embeddings_and_layers_stops_just_these(folder, kind):
    model = model_of(folder, freeze=["embeddings", 0, "2-2"])
    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    stack = {"distilbert": "transformer.layer", "modernbert": "layers"}.get(kind, "encoder.layer")
    prefixes = ("bert.embeddings", f"bert.{stack}.0.", f"bert.{stack}.2.")
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(prefixes)}
    assert {prefix for prefix in prefixes if any(n.startswith(prefix) for n in frozen)} == {
        *prefixes
    }


def test_dropout_that_is_given_is_that_of_every_layer_and_of_the_head(folder):
    def rates(model):
        return {each.p for each in model.modules() if isinstance(each, torch.nn.Dropout)}

    assert rates(model_of(folder, dropout=0.25)) == {0.25}
    quiet = model_of(folder, dropout=0.0)
    inputs = texts(quiet).values()
    assert torch.equal(quiet.train()(*inputs), quiet.eval()(*inputs))
    attention = model_of(folder, dropout=0.5).bert.config.to_dict()
    assert {value for name, value in attention.items() if name.startswith("attention_d")} <= {0.5}


def test_building_and_calling_is_silent(folder, capfd):
    model = model_of(folder).train()
    model(*texts(model).values())
    assert capfd.readouterr().err == ""


def test_nothing_asks_the_device_for_a_value(folder):
    model = model_of(folder).to("meta")  # tensors without values: a question to one is an error
    inputs = texts(model)
    assert model(*(each.to("meta") for each in inputs.values())).shape == (4, 5)


def test_local_attention_reaches_as_far_as_its_window(tmp_path):
    model = model_of(saved(tmp_path / "tiny", "modernbert"))
    masks = model._mask(torch.tensor([[True] * 5 + [False] * 2]))
    window = masks["sliding_attention"][0, 0].int()
    assert window[0].tolist() == [1, 1, 1, 0, 0, 0, 0]  # 4 wide: two to each side
    assert window[4].tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert window[6].tolist() == [0, 0, 0, 0, 1, 0, 1]  # padding has something to look at


@pytest.mark.parametrize("kind", OTHERS)
def test_encoders_beside_these_are_taken_as_they_are(tmp_path, kind, monkeypatch):
    more = {"albert": {"embedding_size": 16}, "deberta-v2": {"type_vocab_size": 0}}
    settings = {"pad_token_id": 1} if kind in ("camembert", "mpnet") else more[kind]
    monkeypatch.setitem(KINDS, kind, KINDS["bert"])
    model = model_of(saved(tmp_path / "tiny", kind, head="", **settings)).double()
    inputs = texts(model)
    together = model(*inputs.values())
    for row in range(len(LENGTHS)):
        assert torch.allclose(together[row], model(*alone(inputs, row))[0], rtol=0, atol=1e-12)


def test_layers_that_share_their_weights_cannot_be_frozen(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "albert", KINDS["bert"])
    folder = saved(tmp_path / "tiny", "albert", head="", embedding_size=16)
    with pytest.raises(ConfigError, match=r"model\.freeze: the layers of AlbertModel cannot"):
        model_of(folder, freeze=[0])


@pytest.mark.parametrize(
    ("kind", "message"),
    [("llama", "has no encoder of texts of type"), ("nonesuch", 'has no "nonesuch" of this')],
)
def test_what_transformers_has_no_encoder_for_is_an_error(tmp_path, kind, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": kind, **KINDS["bert"]}))
    with pytest.raises(ConfigError, match=message) as caught:
        model_of(tmp_path)
    assert [problem.key for problem in caught.value.problems] == ["model.pretrained"]
    assert "modernbert" in caught.value.problems[0].remedy


def test_code_that_a_folder_brings_is_not_asked_for(tmp_path):
    folder = saved(tmp_path / "tiny", "roberta")
    path = folder / "config.json"
    code = {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **code}))
    (folder / "evil.py").write_text("raise SystemExit('it was executed')")
    assert type(model_of(folder).bert) is transformers.RobertaModel


HOW = {
    "attn_implementation": "evil/kernels",
    "_attn_implementation": "evil/kernels",
    "experts_implementation": "evil/kernels",
    "chunk_size_feed_forward": 3,
    "name_or_path": "/home/of/a/stranger",
    "torchscript": True,
    "trust_remote_code": True,
}
"""What a config.json may say of how an encoder is run, and of where it was."""


def test_how_a_folder_wants_its_model_to_be_run_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "albert", KINDS["bert"])  # its attention is transformers' own
    folder = saved(tmp_path / "tiny", "albert", head="", embedding_size=16)
    usual = model_of(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **HOW}))
    model = model_of(folder)
    assert model.description == usual.description
    assert model.bert.config.to_dict() == usual.bert.config.to_dict()
    assert model.bert.config._attn_implementation == usual.bert.config._attn_implementation


def test_how_a_strangers_bundle_wants_its_model_to_be_run_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "albert", KINDS["bert"])
    folder = saved(tmp_path / "tiny", "albert", head="", embedding_size=16)
    description = model_of(folder).description
    model = model_of(folder, description={**description, **HOW})
    assert model.bert.config._attn_implementation == "sdpa"
    assert model.bert.config.chunk_size_feed_forward == 0
