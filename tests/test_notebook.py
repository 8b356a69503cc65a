"""Runs and models show themselves in a notebook."""

from __future__ import annotations

import json
import pickle
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

import nlpkit
from nlpkit.cli.notebook import LONGEST
from tests.bundle.bundles import NUMBERS, TEXTS, make_run


def tables(html: str) -> list[list[list[str]]]:
    """The cells of each table, which have to be well-formed."""
    root = ElementTree.fromstring(f"<div>{html}</div>")
    return [
        [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        for table in root.iter("table")
    ]


def made(folder: Path, labels: list[str], **matrix: Any) -> nlpkit.Run:
    per_class = [{"label": label, "f1": 0.5, "support": 3} for label in labels]
    matrix = {"labels": labels, **(matrix or {"rows": [[1] * len(labels)] * len(labels)})}
    values = {"validation": {"loss": 0.25, "accuracy": 1 / 3}, "test": {"loss": "nan"}}
    details = {"validation": {"per_class": per_class, "confusion_matrix": matrix}, "test": {}}
    (folder / "result.json").write_text(json.dumps({"metrics": values, "details": details}))
    return nlpkit.Run(folder)


def test_a_run_shows_metrics_labels_confusion_and_places(tmp_path: Path) -> None:
    run = made(tmp_path, ["<b>bold</b>", "b & c"])
    metrics, labels, confusion, places = tables(run._repr_html_())
    assert metrics == [
        ["", "validation", "test"],
        ["loss", "0.2500", "nan"],
        ["accuracy", "0.3333", ""],
    ]
    assert labels[1] == ["<b>bold</b>", "0.5000", "3"]
    assert confusion == [
        ["", "<b>bold</b>", "b & c"],
        ["<b>bold</b>", "1", "1"],
        ["b & c", "1", "1"],
    ]
    assert places == [["run", str(tmp_path)], ["bundle", str(tmp_path / "bundle")]]
    assert "<b>bold" not in run._repr_html_()
    assert f'<td style="text-align: left">{tmp_path}</td>' in run._repr_html_()
    assert repr(run) == f"Run({str(tmp_path)!r})"


def test_a_run_is_the_same_folder_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    run = nlpkit.Run(Path(tmp_path.name))
    assert pickle.loads(pickle.dumps(run)).path == tmp_path
    with pytest.raises(nlpkit.BundleError, match="nope: there is no such folder"):
        nlpkit.Run(Path("nope"))


def test_of_many_labels_some_are_shown_and_no_matrix(tmp_path: Path) -> None:
    run = made(tmp_path, [f"label {at}" for at in range(400)], cells=[[0, 1, 5]])
    _, labels, places = tables(run._repr_html_())
    assert len(labels) == 1 + LONGEST
    assert "370 more are in result.json" in run._repr_html_()
    assert places[0][0] == "run"


def test_a_run_that_did_not_finish_says_so(tmp_path: Path) -> None:
    assert tables(nlpkit.Run(tmp_path)._repr_html_()) == [
        [["state", "not finished"], ["run", str(tmp_path)]]
    ]


def test_a_model_shows_what_it_predicts_and_where_it_is(tmp_path: Path) -> None:
    rows = [{"text": text, "label": f"<{len(text) % 3}>"} for text in TEXTS]
    run = make_run(tmp_path / "cards", rows)
    model = nlpkit.load(run)
    (facts,) = tables(model._repr_html_())
    assert dict(map(tuple, facts)) == {
        "task": "sequence",
        "labels": ", ".join(model.labels),
        "model": "transformer",
        "longest text": "16 tokens",
        "runs with": "torch",
        "bundle": str(run / "bundle"),
    }
    assert repr(model).startswith("<Model task: sequence, labels: <")
    number = make_run(tmp_path / "number", NUMBERS, target="regression")
    assert "labels" not in repr(nlpkit.load(number))


@pytest.mark.parametrize("name", ["_repr_html_", "__repr__"])
def test_a_trained_run_can_be_shown(tmp_path: Path, name: str) -> None:
    from tests.test_runs import CONFIG, ROWS

    run = nlpkit.train(CONFIG, data={"train": ROWS}, out=tmp_path / "run")
    assert "run" in getattr(run, name)()
    if name == "_repr_html_":
        assert len(tables(run._repr_html_())) == 4
