"""Tags are read, and entities counted, as seqeval does by default, on any sequences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.contracts import Batch
from nlpkit.testing.metrics import check_metric
from nlpkit_tasks.token.metrics import EntityCounts
from nlpkit_tasks.token.tags import entities, follows, names, scheme_of

seqeval = pytest.importorskip("seqeval.metrics")
labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")

LABELS = ["a-b", "loc", "per"]
ANY = ["O", *(f"{sign}-{label}" for sign in "BIES" for label in LABELS)]
BIO = names(LABELS)


def rows_of(tags: list[str]):
    return st.lists(st.lists(st.sampled_from(tags), max_size=12), min_size=1, max_size=6)


def pairs_of(tags: list[str]):
    pair = st.tuples(st.sampled_from(tags), st.sampled_from(tags))
    return st.lists(st.lists(pair, min_size=1, max_size=12), min_size=1, max_size=6)


@settings(max_examples=500, deadline=None)
@given(rows_of(ANY))
def test_entities_are_seqevals_on_any_sequence_of_any_scheme(rows):
    for tags in rows:
        wanted = [(kind, start, end + 1) for kind, start, end in labeling.get_entities(tags)]
        assert [tuple(each) for each in entities(tags)] == wanted


def batch_of(rows: list[list[tuple[str, str]]]) -> tuple[np.ndarray, Batch]:
    """Logits that say the second tag of each pair, and a batch whose gold is the first."""
    longest = max(map(len, rows))
    logits = np.zeros((len(rows), longest, len(BIO)))
    for place, row in enumerate(rows):
        for at, (_, tag) in enumerate(row):
            logits[place, at, BIO.index(tag)] = 1
    about = {
        "window": [np.zeros(len(row), np.int32) for row in rows],
        "token": [np.arange(len(row), dtype=np.int32) for row in rows],
        "tags": [np.array([BIO.index(tag) for tag, _ in row], np.int32) for row in rows],
    }
    return logits, Batch(inputs={}, targets={}, count=1.0, about=about)


@settings(max_examples=300, deadline=None)
@given(pairs_of(BIO))
def test_values_are_seqevals(rows):
    metric = EntityCounts(LABELS)
    metric.update(*batch_of(rows))
    found = metric.compute(metric.state)
    gold, said = ([[pair[at] for pair in row] for row in rows] for at in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = {
            "f1": seqeval.f1_score(gold, said),
            "precision": seqeval.precision_score(gold, said),
            "recall": seqeval.recall_score(gold, said),
            "token_accuracy": seqeval.accuracy_score(gold, said),
        }
        kinds = {each.label for row in (*gold, *said) for each in entities(row)}
        wanted["macro_f1"] = seqeval.f1_score(gold, said, average="macro") if kinds else 0.0
        report = seqeval.classification_report(gold, said, output_dict=True) if kinds else {}
    assert found == pytest.approx(wanted, abs=1e-12)
    table = {each["label"]: each for each in metric.details(metric.state)["per_class"]}
    for kind in kinds:
        assert table[kind]["f1"] == pytest.approx(report[kind]["f1-score"], abs=1e-12)
        assert table[kind]["support"] == report[kind]["support"]


def test_the_state_adds_up():
    generator = np.random.default_rng(0)
    batches = [
        batch_of([[tuple(generator.choice(BIO, 2)) for _ in range(9)] for _ in range(3)])
        for _ in range(4)
    ]
    logits, parts = zip(*batches, strict=True)
    check_metric(lambda: EntityCounts(LABELS), logits, parts)


@pytest.mark.parametrize(
    ("tags", "scheme", "also"),
    [
        ("B-x I-x O B-x", "BIO", set()),
        ("I-x I-x B-x O", "IOB1", set()),
        ("I-x I-x O", "IOB1", set()),
        ("B-x E-x S-x O", "BIOES", set()),
        ("O O", "IOB1", {"BIO", "BIOES"}),
    ],
)
def test_the_scheme_of_tags_is_the_first_that_they_follow(tags, scheme, also):
    given = tags.split()
    assert scheme_of(given) == scheme
    follow = {each for each in ("IOB1", "BIO", "BIOES") if follows(given, each)}
    assert {scheme, *also} <= follow
    assert ("BIOES" in follow) == ("BIOES" in {scheme, *also})
