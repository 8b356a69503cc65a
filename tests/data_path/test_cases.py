"""Files as people have them: what is right for each is read, and what is wrong is said.

Every file in `cases` has forty rows of the labels damage, login and refund, but for what is odd.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nlpkit.checking.config import examine

if TYPE_CHECKING:
    from collections.abc import Mapping

CASES = Path(__file__).with_name("cases")
LABELS = ["damage", "login", "refund"]
ALIKE = "labels that differ by capitals, blanks or the form of Unicode alone"
ONE_WAY = "write each in one way, if both mean the same"
FEW = "give them more rows, or merge them"
MULTI_HOT = (
    'column "label": "[1, 0, 0]" is a list of 0 and 1 (task.labels: [a, b, c] names the places of '
    "such lists); 40 such rows"
)
QUOTES = "close or double the quotes; data.quotes: none, if quotes mean nothing here"
SEPARATE = "separate the values, and so it is read; data.delimiter:"
BOTH: list[dict[str, Any]] = [{"target": "class"}, {"target": "multilabel"}]


def case(
    name: str, rows: int, labels: int, *said: str, config: Mapping[str, Any] | None = None
) -> Any:
    """A file, the rows and labels that can be used, and what is said of it, behind its name."""
    mark = " ".join([name, *(f"{key}={value}" for key, value in (config or {}).items())])
    return pytest.param(name, config or {}, rows, labels, [name + each for each in said], id=mark)


EXPECTED = [
    case(
        "blank-before-quote.csv",
        28,
        3,
        ":3: a blank stands before a quote, which is therefore a part of the value; remove the "
        "blank",
        ":2: has 3 fields, but the header has 2 columns: a blank stands before a quote, which "
        "therefore quotes nothing (remove the blank); 12 such rows; data.on_bad_rows: skip "
        "drops them",
    ),
    case("excel-empty-columns.csv", 40, 3),
    case("excel-empty-first.csv", 40, 3),
    case(
        "labels-alike.csv",
        40,
        5,
        ":2: 2 of 5 labels have fewer than 5 training rows: DAMAGE (4), REFUND (4) (also "
        f"labels-alike.csv:7); {FEW}",
        f':2: {ALIKE}: "DAMAGE" (4), "damage" (12); "REFUND" (4), "refund" (8) (also '
        f"labels-alike.csv:7); {ONE_WAY}",
    ),
    case(
        "labels-nan.csv",
        40,
        4,
        ":2: labels that often stand for a missing one: nan (7) (also labels-nan.csv:8); if "
        "they do, leave the cells empty: they are bad rows then",
    ),
    case(
        "labels-nfd.csv",
        40,
        6,
        ":2: 3 of 6 labels have fewer than 5 training rows: cafe\u0301 login (2), cafe\u0301 "
        f"damage (4), cafe\u0301 refund (4) (also labels-nfd.csv:6); {FEW}",
        f':2: {ALIKE}: "cafe\\u0301 damage" (4), "café damage" (12); "cafe\\u0301 login" (2), '
        '"café login" (10); "cafe\\u0301 refund" (4), "café refund" (8) (also '
        f"labels-nfd.csv:6); {ONE_WAY}",
    ),
    *(case("multi-hot.csv", 0, 0, f":2: {MULTI_HOT}", config=target) for target in BOTH),
    *(case("multi-hot.jsonl", 0, 0, f":1: {MULTI_HOT}", config=target) for target in BOTH),
    *(
        case(f"multi-hot.{kind}", 40, 3, config={**target, "labels": LABELS})
        for kind in ("csv", "jsonl")
        for target in BOTH
    ),
    case(
        "numbers.csv",
        39,
        0,
        ':7: column "score": "1_000" is not a finite number; 1 such row; data.on_bad_rows: '
        "skip drops them",
        config={"target": "regression", "label": "score"},
    ),
    *(case("one-column-a-label.csv", 40, 3, config={**each, "label": LABELS}) for each in BOTH),
    case(
        "one-column-a-label.csv",
        0,
        0,
        ':2: column "label": does not exist (the columns are: text, damage, login, refund); 40 '
        "such rows",
    ),
    case("pandas-lists.csv", 40, 3, config={"target": "multilabel"}),
    case(
        "pandas-lists.csv",
        0,
        0,
        ':2: column "label": "[\'damage\']" is not a single label (task.target: multilabel '
        "takes lists of labels); 40 such rows",
    ),
    case("rows.ndjson", 40, 3),
    case(
        "semicolons.csv",
        40,
        3,
        f': its beginning says that semicolons {SEPARATE} ";" says it for good',
    ),
    case("semicolons.csv", 40, 3, config={"data.delimiter": ";"}),
    case(
        "stray-quotes.csv",
        18,
        3,
        f":4: 1 quoted value holds what look like rows: lines 4 to 26; {QUOTES}",
        ":4: 1 of 18 rows are longer than 128 tokens and are cut; 99% fit into "
        "tokenizer.max_length: 279, if the model takes it",
    ),
    case("stray-quotes.csv", 40, 3, config={"data.quotes": "none"}),
    case(
        "stray-quotes.tsv",
        25,
        3,
        f":4: 2 quoted values hold what look like rows: lines 4 to 9, 21 to 31; {QUOTES}",
    ),
    case("stray-quotes.tsv", 40, 3, config={"data.quotes": "none"}),
    case("tabs.csv", 40, 3, f': its beginning says that tabs {SEPARATE} "\\t" says it for good'),
    case("tabs.csv", 40, 3, config={"data.delimiter": "\t"}),
]


@pytest.mark.parametrize(("name", "config", "rows", "labels", "said"), EXPECTED)
def test_what_is_read_and_what_is_said(
    name: str,
    config: dict[str, Any],
    rows: int,
    labels: int,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(CASES)
    data: dict[str, Any] = {"train": name, "validation": None}
    task: dict[str, Any] = {"name": "sequence"}
    for key, value in config.items():
        part, _, option = key.rpartition(".")
        (data if part else task)[option] = value
    found = examine(
        {"name": "odd", "model": "transformer", "device": "cpu", "data": data, "task": task}
    )
    assert [str(problem) for problem in found.problems] == said
    assert (found.rows, found.labels) == ({"train": rows}, labels)


def test_every_file_is_a_case() -> None:
    assert {each.values[0] for each in EXPECTED} == {path.name for path in CASES.iterdir()}
