"""Runs of the task `token`: trained, loaded, asked; and its page."""

from __future__ import annotations

from pathlib import Path

import pytest

import nlpkit
from tests.tasks.tokens import TEXTS

TAGGER = '''
import nlpkit
from torch import nn


class Tagger(nn.Module):
    """Says of each token what it is known for: a table."""

    inputs = ("input_ids",)

    def __init__(self, head, vocabulary):
        super().__init__()
        self.table = nn.Embedding(vocabulary.size, head.size)
        nn.init.zeros_(self.table.weight)

    def forward(self, input_ids):
        return self.table(input_ids)


def build(options, head, vocabulary, *, weights):
    return Tagger(head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="tagger", target="tagger:build")
'''
PLACES, PEOPLE = ("Berlin", "上海", "Oslo"), ("Ada", "Grace")
WORDS = ["then", "Ada", "flew", "to", "Berlin", ",", "and", "Grace", "to", "Oslo", "."]
TAGS = ["O", "B-per", "O", "O", "B-loc", "O", "O", "B-per", "O", "B-loc", "O"]


def config(folder: Path, **changes) -> dict:
    (folder / "tagger.py").write_text(TAGGER, encoding="utf-8")
    return {
        "name": "names",
        "plugins": [str(folder / "tagger.py")],
        "task": {"name": "token"},
        "tokenizer": {"name": "wordpiece", "lowercase": False, "max_length": 64},
        "model": "tagger",
        "train": {"epochs": 1, "batch_size": 4, "learning_rate": 1.0, "warmup_ratio": 0.0},
        "device": "cpu",
        "observers": [],
        **changes,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("token")
    rows = [{"text": WORDS, "label": TAGS}] * 16
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        data = {"train": rows, "validation": [{"text": WORDS * 50, "label": TAGS * 50}] * 3}
        return nlpkit.train(config(folder), data=data, out=folder / "run")


@pytest.fixture(scope="module")
def model(run):
    return nlpkit.load(run.path, trust_plugins=True)


def test_a_model_that_knows_the_words_is_right_on_each(run):
    loss, *values = run.metrics["validation"].items()
    assert dict(values) == dict.fromkeys(
        ("f1", "precision", "recall", "macro_f1", "token_accuracy"), 1.0
    )
    assert loss[1] < 0.1


@pytest.mark.parametrize("count", [3_000, 10_000])
def test_of_a_long_row_no_word_is_lost_and_none_doubled(model, count):
    words = (WORDS * count)[:count]
    (found,) = model.predict([words])
    wanted = [(at, at + 1, word) for at, word in enumerate(words) if word[0] in "ABGO"]
    assert [(each["start"], each["end"], each["text"]) for each in found.entities] == wanted
    (found,) = model.predict([" ".join(words)])
    places = [(each["start"], each["end"]) for each in found.entities]
    text = " ".join(words)
    assert [text[start:end] for start, end in places] == [word for *_, word in wanted]
    assert len({*places}) == len(wanted)


def test_words_and_texts_may_stand_side_by_side(model):
    words, text, odd = model.predict([["Ada", "\u200b", "to", " "], "to Oslo,Ada", [" "]])
    assert [each["label"] for each in text.entities] == ["loc", "per"]
    assert [(each["start"], each["end"]) for each in text.entities] == [(3, 7), (8, 11)]
    assert [(each["start"], each["text"]) for each in words.entities] == [(0, "Ada")]
    assert odd.entities == []
    with pytest.raises(nlpkit.InputError, match=r"text 1.*the list of words is empty"):
        model.predict(["to Oslo", []])


def warnings(folder: Path, rows: list, **changes) -> dict[str, str]:
    found = nlpkit.check(config(folder, **changes), data={"train": rows})
    assert not [str(each) for each in found if each.severity == "error"]
    return {each.message: each.remedy for each in found}


def test_check_says_what_tokens_do_not_fit(tmp_path: Path):
    odd = [
        {"text": ["Ada", "\u200b"], "label": ["B-per", "O"]},
        {"text": "in Berlin now", "label": [{"start": 3, "end": 8, "label": "loc"}]},
        {"text": ["Ada", "in", "Oslo"], "label": ["B-per", "O", "I-loc"]},
        *[{"text": text, "label": []} for text in TEXTS],
    ]
    found = warnings(tmp_path, odd, data={"name": "files", "validation": None})
    for message in (
        "1 of 7 rows have words that the tokenizer loses",
        "1 of 7 rows have a span that cuts a word",
        "1 of 7 rows have tags that do not follow BIO",
        "2 of 2 labels have fewer than 5 training rows: loc (2), per (2)",
    ):
        assert [each for each in found if each.startswith(message)], (message, found)
    assert not [each for each in found if "capitals" in each]


def test_check_says_that_capitals_are_lost_and_words_joined(tmp_path: Path):
    rows = [{"text": "Ada 住在北京", "label": [{"start": 0, "end": 3, "label": "per"}]}] * 6
    rows = [{**row, "text": f"{row['text']}{at}"} for at, row in enumerate(rows)]
    folded = {"name": "bpe", "max_length": 64}
    found = warnings(tmp_path, rows, data={"name": "files", "validation": None}, tokenizer=folded)
    assert [each for each in found if "6 rows have capitals" in each], found
    assert [each for each in found if "6 rows have words that share a token" in each], found
