"""What is noticed of rows as they are read: how much is kept, counted, and looked up again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from nlpkit.checking.quality import Quality
from nlpkit.config.load import load_config
from nlpkit.config.resolve import resolve
from nlpkit.contracts import Row
from nlpkit.data.encode import Encoder
from nlpkit.data.rows import BadRows
from nlpkit.data.store import StoreWriter
from nlpkit.data.vocabulary import vocabulary_of
from nlpkit.plugin.host import Host
from nlpkit_data.config import CharConfig
from nlpkit_data.tokenizers import char
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.task import SequenceTask
from nlpkit_tasks.token.config import TokenConfig
from nlpkit_tasks.token.task import TokenTask


class Counted(list[Row]):
    """Rows that count how often they are looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Row]:
        self.looks += 1  # at the first row
        yield from super().__iter__()


def rows_of(texts: Sequence[str], labels: str = "ab", split: str = "train") -> Counted:
    return Counted(
        Row({"text": text, "label": labels[place % len(labels)]}, f"{split}.csv:{place + 2}")
        for place, text in enumerate(texts)
    )


class Reading:
    """A task, its codec and tokenizer, and what is found in some rows."""

    def __init__(self, task: Any, *, length: int = 12, **splits: Counted) -> None:
        self.task = task
        self.config = resolve(
            load_config(
                {
                    "name": "x",
                    "data": {"train": "train.csv"},
                    "tokenizer": {"name": "char", "max_length": length},
                    "model": "transformer",
                }
            ),
            Host.discover(),
        )
        texts = [str(row.values["text"]) for row in splits["train"]]
        self.tokenizer = char(CharConfig(), texts)
        vocabulary = vocabulary_of(self.tokenizer, length)
        self.codec = task.codec(task.fit(splits["train"]), vocabulary)
        self.bad = BadRows("skip")
        self.quality = Quality(self.config, task, self.codec, self.tokenizer, splits)
        for rows in splits.values():
            rows.looks = 0
            self.quality.read(rows, self.bad, "evaluate")

    def said(self) -> list[str]:
        return [
            str(each)
            for each in (
                *self.quality.problems_of_rows(),
                *self.quality.problems_of_tokens(trained=True),
            )
        ]


TEXTS = [f"{'x' * count} {count}" for count in range(1, 21)]


def sequence(**options: Any) -> SequenceTask:
    return SequenceTask(SequenceConfig(**options))


def test_good_rows_have_no_problem_and_are_looked_at_once():
    rows = rows_of(TEXTS)
    reading = Reading(sequence(), length=32, train=rows)
    assert reading.said() == []
    assert reading.bad.count == 0
    assert rows.looks == 1


def test_rows_that_a_warning_names_are_looked_up_once_more_in_all():
    rows, others = rows_of([*TEXTS, *TEXTS[:3]]), rows_of(TEXTS[4:6], split="test")
    reading = Reading(sequence(), length=32, train=rows, test=others)
    copy, leak = reading.said()
    assert copy.startswith("train.csv:22: is train.csv:2 again, text and target; such rows: 3 of ")
    assert leak.startswith("test.csv:2: has the text of train.csv:6, a training row; such rows: 2 ")
    assert (rows.looks, others.looks) == (2, 2)


def test_what_the_task_cannot_encode_is_bad_and_counts_nowhere():
    train = rows_of(TEXTS)
    other = rows_of(["new", *TEXTS[:1]], labels="c", split="test")
    reading = Reading(sequence(), length=32, train=train, test=other)
    assert reading.bad.count == 2
    assert '"c" is not one of the 2 labels' in str(reading.bad.first)
    assert reading.quality.facts().lengths["text"]["max"] == len(TEXTS[-1]) + 2
    assert reading.said() == []  # a bad row is no copy


def test_labels_are_judged_at_their_first_row():
    reading = Reading(sequence(), length=32, train=rows_of(TEXTS, labels="a" * 18 + "bc"))
    (said,) = reading.said()
    assert said == (
        "train.csv:20: 2 of 3 labels have fewer than 5 training rows: b (1), c (1) (also "
        "train.csv:21); give them more rows, or merge them"
    )


@pytest.mark.parametrize("long_text", ["truncate", "window"])
@pytest.mark.parametrize("task", [(SequenceTask, SequenceConfig), (TokenTask, TokenConfig)])
def test_bytes_are_about_those_of_the_token_store(tmp_path, task, long_text):
    built = task[0](task[1](long_text=long_text))
    texts = TEXTS * 10
    rows = rows_of(texts)
    if task[0] is TokenTask:
        rows = Counted(
            Row({"text": text.split(), "label": ["B-x", "O"]}, f":{place}")
            for place, text in enumerate(texts)
        )
    reading = Reading(built, train=rows)
    encoder = Encoder(built, reading.codec, reading.tokenizer)
    with StoreWriter(tmp_path / "store") as writer:
        for each in encoder.encoded(rows, "evaluate"):
            writer.append(each.example, each.row.address, reading.codec.lengths(each.example))
    size = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert 0.5 < reading.quality.bytes / size < 2


def test_windows_are_told_of_a_task_that_has_them_alone():
    cut = Reading(sequence(), train=rows_of(TEXTS)).quality.facts()
    assert (cut.windows, cut.windowed) == (None, None)
    assert cut.truncated == 0.6
    facts = Reading(sequence(long_text="window"), train=rows_of(TEXTS)).quality.facts()
    assert facts.truncated == 0
    assert facts.windowed == 0.6
    assert facts.windows is not None
    assert 1.6 <= facts.windows < 4
    assert facts.lengths == cut.lengths


def test_what_a_task_remarks_is_said_once_with_the_rows_that_it_is_about():
    rows = Counted(
        Row({"text": ["x"], "label": [tag]}, f"train.jsonl:{place}")
        for place, tag in enumerate(["I-x", "B-x"] * 5)
    )
    said = Reading(TokenTask(TokenConfig()), train=rows).said()
    assert [each for each in said if "do not follow" in each] == [
        "train.jsonl:0: 5 of 10 rows have tags that do not follow BIO (also train.jsonl:2); what "
        "goes on with nothing begins an entity, as conlleval reads it"
    ]
