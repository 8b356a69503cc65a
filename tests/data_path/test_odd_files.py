"""Files as people have them: what is right for each is read, and what is wrong is said.

Every file has forty rows of three kinds, as a column of labels would name them.
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest

from nlpkit.checks import Findings, examine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LABELS = ["damage", "login", "refund"]
TEXTS = ["the box arrived crushed, and wet", "I cannot log in", "where is the money"]
ROWS = [(f"{TEXTS[number % 3]} (case {number})", LABELS[number % 3]) for number in range(40)]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(name: str, cells: Callable[[int, str], Sequence[Any]], *columns: str) -> str:
    """Writes a csv of the texts and what `cells` gives for the number and label of each."""
    with open(name, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", *(columns or ["label"])])
        rows = enumerate(ROWS)
        writer.writerows([text, *cells(number, label)] for number, (text, label) in rows)
    return name


def found(name: str, **task: Any) -> Findings:
    data = {"train": name, "validation": None}
    config = {"name": "odd", "model": "transformer", "device": "cpu", "data": data}
    return examine({**config, "task": {"name": "sequence", **task}})


def said(findings: Findings) -> list[str]:
    """What was found, but for labels that have few rows."""
    return [str(each) for each in findings.problems if "have fewer than" not in each.message]


def places(label: str) -> list[int]:
    return [int(label == each) for each in LABELS]


def multi_hot(name: str) -> str:
    if name.endswith(".csv"):
        return table(name, lambda _, label: [json.dumps(places(label))])
    with open(name, "w", encoding="utf-8") as file:
        for text, label in ROWS:
            file.write(json.dumps({"text": text, "label": places(label)}) + "\n")
    return name


@pytest.mark.parametrize("target", ["class", "multilabel"])
@pytest.mark.parametrize("name", ["multi-hot.csv", "multi-hot.jsonl"])
def test_multi_hot(name: str, target: str) -> None:
    findings = found(multi_hot(name), target=target, labels=LABELS)
    assert (said(findings), findings.labels, findings.rows) == ([], 3, {"train": 40})
    line = 2 if name.endswith(".csv") else 1
    assert said(found(name, target=target)) == [
        f'{name}:{line}: column "label": "[1, 0, 0]" is a list of 0 and 1 (task.labels: [a, b, c] '
        "names the places of such lists); 40 such rows"
    ]


@pytest.mark.parametrize("target", ["class", "multilabel"])
def test_one_column_a_label(target: str) -> None:
    table("columns.csv", lambda _, label: places(label), *LABELS)
    findings = found("columns.csv", target=target, label=LABELS)
    assert (said(findings), findings.labels) == ([], 3)


def test_pandas_lists() -> None:
    table("lists.csv", lambda _, label: [[label]])
    findings = found("lists.csv", target="multilabel")
    assert (said(findings), findings.labels) == ([], 3)
    assert said(found("lists.csv")) == [
        'lists.csv:2: column "label": "[\'damage\']" is not a single label (task.target: '
        "multilabel takes lists of labels); 40 such rows"
    ]


def test_labels_alike() -> None:
    table("alike.csv", lambda at, label: [label.upper() if at % 7 == 0 else label])
    findings = found("alike.csv")
    assert findings.labels == 6
    assert said(findings) == [
        "alike.csv:2: labels that differ by capitals, blanks or the form of Unicode alone: "
        '"DAMAGE" (2), "damage" (12); "LOGIN" (2), "login" (11); "REFUND" (2), "refund" (11) (also '
        "alike.csv:9); write each in one way, if both mean the same"
    ]


def test_labels_in_another_form_of_unicode() -> None:
    table(
        "forms.csv",
        lambda at, label: ["cafe\u0301" if at == 3 else "caf\u00e9" if at % 2 else label],
    )
    [problem] = said(found("forms.csv"))
    assert problem.startswith("forms.csv:5: labels that differ by")
    assert '"cafe\\u0301" (1), "caf\u00e9" (19)' in problem


def test_labels_nan() -> None:
    table("nan.csv", lambda at, label: ["nan" if at % 6 == 0 else label])
    assert said(found("nan.csv")) == [
        "nan.csv:2: labels that often stand for a missing one: nan (7) (also nan.csv:8); if they "
        "do, leave the cells empty: they are bad rows then"
    ]


def test_numbers() -> None:
    table("numbers.csv", lambda at, _: ["1_000" if at == 5 else at / 10], "score")
    assert said(found("numbers.csv", target="regression", label="score")) == [
        'numbers.csv:7: column "score": "1_000" is not a finite number; 1 such row; '
        "data.on_bad_rows: skip drops them"
    ]
