"""Runs of the task `token`: trained, loaded, asked; and its page."""

from __future__ import annotations

from pathlib import Path

import pytest

import nlpkit
from tests.docs.pages import TASKS, table
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
WORDS = ["then", "Ada", "flew", "to", "Berlin", ",", "and", "Grace", "to", "Oslo", "."]
TAGS = ["O", "B-per", "O", "O", "B-loc", "O", "O", "B-per", "O", "B-loc", "O"]
CHINESE = {"text": "她住在上海", "label": [{"start": 3, "end": 5, "label": "loc"}]}


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
    rows = [{"text": WORDS, "label": TAGS}] * 16 + [CHINESE] * 4
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


def evaluated(run: nlpkit.Run, *rows: dict) -> dict[str, float]:
    return nlpkit.evaluate(run, rows, device="cpu", trust_plugins=True)


def refused(run: nlpkit.Run, text: object, label: object, problem: str) -> None:
    good, bad = {"text": WORDS, "label": TAGS}, {"text": text, "label": label}
    with pytest.raises(nlpkit.InputError, match=rf"^data row 1: .*{problem}"):
        evaluated(run, good, bad)


def span(start: int, end: int, label: str = "loc") -> dict:
    return {"start": start, "end": end, "label": label}


def an_unbegun_entity(run, model):
    assert evaluated(run, {"text": ["in", "Oslo"], "label": ["O", "I-loc"]})["f1"] == 1.0


def a_span_in_a_word(run, model):
    assert evaluated(run, {"text": "in Berlin now", "label": [span(4, 8)]})["f1"] == 1.0


def spans_in_each_others_way(run, model):
    refused(run, "to Oslo now", [span(0, 7), span(3, 11)], "is in two spans")
    refused(run, "to Oslo now", [span(0, 7), span(3, 7)], "is in two spans")
    refused(run, "to Oslo now", [span(3, 3)], "is empty")
    refused(run, "to Oslo now", [span(2, 3)], "holds no word")
    refused(run, "to Oslo now", [span(3, 12)], "not inside the 11 characters")


def tags_that_do_not_fit(run, model):
    for tags in (["O"], [], ["O"] * 3):
        refused(run, ["to", "Oslo"], tags, f"has {len(tags)} tags, and column .text. 2 words")
    refused(run, "to Oslo", ["O"], "has 1 tags, and column .text. 2 words")
    refused(run, ["to", "Oslo"], ["O", "loc"], '"loc" is no tag')


def a_type_that_is_unknown(run, model):
    refused(run, ["Oslo"], ["B-locc"], '"locc" is not one of the 2 labels; did you mean "loc"')


def rows_without_an_entity(run, model):
    rows = [{"text": ["Oslo"], "label": ["O"]}] * 8
    found = nlpkit.check(config(run.path.parent), data={"train": rows})
    (error,) = [each.message for each in found if each.severity == "error"]
    assert "the training rows have no entities" in error


def nothing(run, model):
    for text, problem in (([], "the list of words is empty"), ("", "the text is empty")):
        refused(run, text, [], problem)
        with pytest.raises(nlpkit.InputError, match=f"text 1: .*{problem}"):
            model.predict(["to Oslo", text])


def words_that_cannot_be_seen(run, model):
    words = ["Ada", "\u200b", "  ", "\u2060\u00ad", "Oslo"]
    (found,) = model.predict([words])
    assert [(each["start"], each["end"]) for each in found.entities] == [(0, 1), (4, 5)]
    values = evaluated(run, {"text": words, "label": ["B-per", "B-loc", "O", "O", "B-loc"]})
    assert (values["precision"], values["recall"]) == (1.0, 2 / 3)
    assert values["token_accuracy"] == 4 / 5
    unseen = evaluated(run, {"text": words[1:4], "label": ["O", "O", "O"]})
    assert unseen["token_accuracy"] == 1.0


def characters_without_blanks(run, model):
    text = "她住在上海，Ada住在上海"
    (found,) = model.predict([text])
    places = [(each["start"], each["end"], each["text"]) for each in found.entities]
    assert places == [(3, 5, "上海"), (6, 9, "Ada"), (11, 13, "上海")]
    (found,) = model.predict([list(text[:5])])
    assert [(each["start"], each["end"]) for each in found.entities] == [(3, 5)]


def very_many_words(run, model):
    words, tags = (WORDS * 1000)[:10_000], (TAGS * 1000)[:10_000]
    values = evaluated(run, {"text": words, "label": tags})
    assert (values["f1"], values["token_accuracy"]) == (1.0, 1.0)
    with_one = evaluated(run, {"text": [*words, "Ada"], "label": [*tags, "O"]})
    assert with_one["recall"] == 1.0 > with_one["precision"]


ODD = {
    "A tag that continues nothing (O I-place)": an_unbegun_entity,
    "A span that cuts a word": a_span_in_a_word,
    "Spans that overlap or are nested, are empty, hold no word or lie outside the text": (
        spans_in_each_others_way
    ),
    "Fewer or more tags than words; something that is no tag": tags_that_do_not_fit,
    "A type in validation or test that no training row has": a_type_that_is_unknown,
    "No training row with an entity": rows_without_an_entity,
    "An empty text or list": nothing,
    "A word of only spaces or without width": words_that_cannot_be_seen,
    "Chinese without spaces": characters_without_blanks,
    "A list of 10,000 words": very_many_words,
}
"""What the page says of odd inputs, and what finds it so."""


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_input_gives_what_the_page_says(run, model, odd):
    ODD[odd](run, model)


def test_every_odd_input_of_the_page_is_tried():
    (page,) = [each for each in TASKS if each.name == "token.md"]
    odd = [line.cells[0] for line in table(page) if line.heading == "What goes in"]
    assert odd[2:] == [*ODD]  # after the head
