from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score

import nlpkit
from nlpkit.bundle.load import load
from nlpkit.plugin.trust import remember
from tests.bundle.bundles import LABELS, NUMBERS, PAIRS, PLUGIN, TEXTS, make_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def plugged(tmp_path: Path) -> Path:
    """A run whose model is a file of its own, which is gone from where it was."""
    source = tmp_path / "mine" / f"bag_{tmp_path.name.replace('-', '_')}.py"
    source.parent.mkdir()
    source.write_text(PLUGIN.replace("{name}", source.stem))
    run = make_run(tmp_path / "plugged", model=source.stem, plugins=[str(source)])
    remember([source])
    shutil.rmtree(source.parent)
    return run


def test_predictions_are_the_training_labels_with_scores_that_sum_to_one(run: Path) -> None:
    predictions = load(run).predict(TEXTS)
    assert len(predictions) == len(TEXTS)
    for prediction in predictions:
        assert set(prediction.scores) == {"arrival", "balance", "lost"}
        assert sum(prediction.scores.values()) == pytest.approx(1)
        assert prediction.score == prediction.scores[prediction.label]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_neither_batch_size_nor_order_changes_a_prediction(run: Path, batch_size: int) -> None:
    model = load(run)
    alone = {text: model.predict([text])[0] for text in TEXTS}
    assert len({round(each.score, 4) for each in alone.values()}) == len(TEXTS)
    texts = [*reversed(TEXTS), *TEXTS] * 20
    for text, prediction in zip(texts, model.predict(texts, batch_size=batch_size), strict=True):
        assert prediction.label == alone[text].label
        assert prediction.score == pytest.approx(alone[text].score, abs=1e-6)


def test_bundle_alone_predicts_the_same_in_a_fresh_process(run: Path, tmp_path: Path) -> None:
    expected = [vars(prediction) for prediction in load(run).predict(TEXTS)]
    bundle = shutil.move(run / "bundle", tmp_path / "moved")
    shutil.rmtree(run)
    code = (
        "import json, nlpkit\n"
        f"found = nlpkit.load({str(bundle)!r}).predict({list(TEXTS)!r})\n"
        "print(json.dumps([vars(each) for each in found]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize(
    "texts",
    [
        iter(TEXTS),
        pd.Series(TEXTS, index=range(100, 108)),
        np.array(TEXTS),
        (t for t in TEXTS),
        pa.array(TEXTS),
        pa.chunked_array([TEXTS[:3], TEXTS[3:]]),
    ],
    ids=["iterator", "series", "array", "generator", "arrow", "chunked"],
)
def test_any_iterable_of_texts_is_taken(run: Path, texts: object) -> None:
    model = load(run)
    assert model.predict(texts) == model.predict(list(TEXTS))  # type: ignore[arg-type]


def test_no_texts_give_no_predictions(run: Path) -> None:
    assert load(run).predict([]) == []


def test_endless_texts_are_predicted_as_they_come(run: Path) -> None:
    endless = load(run).predict_iter(repeat("where is my money"), batch_size=2)
    assert len(list(islice(endless, 300))) == 300


def test_many_labels_are_predicted_fewer_texts_at_a_time(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nlpkit.load(run)

    def taken() -> int:
        texts = iter(["where is my parcel"] * 300)
        next(model.predict_iter(texts, batch_size=2))
        return 300 - len(list(texts))

    whole = taken()
    monkeypatch.setattr("nlpkit.bundle.predict._SCORES", 16 * model.bundle.head.size)
    assert (taken(), whole) == (16, 128)


@pytest.mark.parametrize("bad", [None, "", "  \n", float("nan"), pd.NA, 7, "\ud800", ("a", "b")])
def test_a_text_that_is_none_is_an_error_with_its_position(run: Path, bad: object) -> None:
    with pytest.raises(nlpkit.DataError, match=r"^text 2: "):
        load(run).predict(["a", "b", bad, "c"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "texts", ["one text", b"a", {"text": "a"}, None, 5, pd.DataFrame({"text": ["a"]})]
)
def test_what_only_looks_like_texts_is_refused(run: Path, texts: object) -> None:
    with pytest.raises(nlpkit.InputError, match="takes a list of texts"):
        load(run).predict(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", None])
def test_a_batch_size_that_is_no_positive_whole_number_is_refused(
    run: Path, batch_size: object
) -> None:
    with pytest.raises(nlpkit.InputError, match="batch_size must be a whole number"):
        load(run).predict(TEXTS, batch_size=batch_size)  # type: ignore[arg-type]
    with pytest.raises(nlpkit.InputError, match="batch_size must be a whole number"):
        nlpkit.evaluate(run, [{}], batch_size=batch_size)  # type: ignore[arg-type]
    assert load(run).predict(TEXTS, batch_size=np.int64(4))  # type: ignore[arg-type]


def test_only_the_best_scores_are_kept_best_first(run: Path) -> None:
    model = load(run)
    for one, whole in zip(model.predict(TEXTS, top_k=2), model.predict(TEXTS), strict=True):
        best = sorted(whole.scores.items(), key=lambda item: -item[1])
        assert list(one.scores.items()) == best[:2]
        assert next(iter(one.scores)) == one.label == whole.label
    (every,) = model.predict(TEXTS[:1], top_k=np.int64(100))  # type: ignore[arg-type]
    assert len(every.scores) == 3


def test_probabilities_are_the_scores_in_the_order_of_the_labels(run: Path) -> None:
    model = load(run)
    found = model.probabilities(TEXTS, batch_size=2)
    assert found.dtype == np.float64
    for row, each in zip(found, model.predict(TEXTS), strict=True):
        assert row.tolist() == pytest.approx([each.scores[label] for label in model.labels])
    assert model.probabilities([]).shape == (0, 3)
    with pytest.raises(nlpkit.DataError, match="^text 1"):
        model.probabilities(["a", ""])


@pytest.mark.parametrize("top_k", [0, -1, 2.5, "3"])
def test_a_top_k_that_is_no_positive_whole_number_is_refused(run: Path, top_k: object) -> None:
    with pytest.raises(nlpkit.InputError, match="top_k must be a whole number of at least 1"):
        load(run).predict(TEXTS, top_k=top_k)  # type: ignore[arg-type]


def test_a_bad_text_does_not_keep_its_window_in_memory(run: Path) -> None:
    (outcome,) = load(run).outcomes([""])
    assert isinstance(outcome, nlpkit.DataError)
    assert outcome.__traceback__ is None


def test_a_text_beyond_max_length_is_cut(run: Path) -> None:
    (prediction,) = load(run).predict(["money " * 500])
    assert prediction.label


def test_multilabel_gives_the_labels_that_are_likelier_than_not(tmp_path: Path) -> None:
    run = make_run(tmp_path / "many", LABELS, target="multilabel")
    for prediction in load(run).predict(TEXTS):
        assert set(prediction.row()) == {"labels", "scores"}
        assert len(prediction.labels) == len(prediction.scores)
        assert set(prediction.probabilities) == {"any", "arrival", "balance", "lost"}
    (best,) = load(run).predict(TEXTS[:1], top_k=1)
    assert list(best.probabilities.values()) == [max(best.scores)]
    assert load(run).probabilities(TEXTS[:1]).max() == max(best.scores)


def test_regression_gives_a_number_and_has_nothing_to_rank(tmp_path: Path) -> None:
    model = load(make_run(tmp_path / "number", NUMBERS, target="regression"))
    assert all(isinstance(each.value, float) for each in model.predict(TEXTS))
    del model.engine  # it is refused before the model runs
    with pytest.raises(nlpkit.InputError, match="top_k: the task predicts no labels with scores"):
        model.predict(TEXTS, top_k=1)
    with pytest.raises(nlpkit.InputError, match="probabilities: the task predicts no labels"):
        model.probabilities(TEXTS)


def test_pairs_are_taken_by_a_task_of_two_columns_and_only_there(tmp_path: Path) -> None:
    model = load(make_run(tmp_path / "pairs", PAIRS, text=["first", "second"]))
    one, other = model.predict([("my card", "money"), ["money", "my card"]])  # type: ignore[list-item]
    assert one.score != other.score
    with pytest.raises(nlpkit.DataError, match=r"text 0: .*not a pair of texts"):
        model.predict(["alone"])
    with pytest.raises(nlpkit.DataError, match="text 1: "):
        model.predict([("my card", "money"), ("my card", "")])


@pytest.mark.parametrize("kind", [list, tuple, np.array, pa.array])
def test_a_pair_is_any_list_of_two(tmp_path: Path, kind: Callable[[Any], Any]) -> None:
    model = load(make_run(tmp_path / "pairs", PAIRS, text=["first", "second"]))
    assert model.predict([kind(["money", "card"])]) == model.predict([("money", "card")])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1], [0, 1]),
        ([10, 9], [10, 9]),
        ([1.0, 0.0], [0, 1]),
        ([True, False], [False, True]),
        ([-1, 1], [-1, 1]),
        (["1", "0"], ["0", "1"]),
        ([1, "b"], ["1", "b"]),
        ([0.5, 1.0], ["0.5", "1"]),
    ],
)
def test_labels_have_the_type_of_the_training_column(
    tmp_path: Path, labels: list[Any], expected: list[Any]
) -> None:
    rows = [{"text": text, "label": labels[at % 2]} for at, text in enumerate(TEXTS)]
    model = load(make_run(tmp_path / "typed", rows))
    assert model.labels == expected
    assert [type(each) for each in model.labels] == [type(each) for each in expected]
    predictions = model.predict(TEXTS)
    assert list(predictions[0].scores) == model.bundle.schema["labels"]
    typed = dict(zip(predictions[0].scores, model.labels, strict=True))
    said = [typed[each.label] for each in predictions]
    right = sum(said[at] == labels[at % 2] for at in range(len(TEXTS))) / len(TEXTS)
    if type(labels[0]) is type(labels[1]) and not isinstance(labels[0], float):
        assert accuracy_score([labels[at % 2] for at in range(len(TEXTS))], said) == right


def test_labels_of_other_targets(tmp_path: Path) -> None:
    numbers = [{**row, "label": [1, 2]} for row in LABELS]
    assert load(make_run(tmp_path / "ids", numbers, target="multilabel")).labels == [1, 2]
    assert load(make_run(tmp_path / "number", NUMBERS, target="regression")).labels == []


def test_plugins_that_this_user_trained_with_are_executed_wherever_the_bundle_lies(
    plugged: Path, tmp_path: Path
) -> None:
    expected = load(plugged).predict(TEXTS)
    bundle = shutil.move(plugged / "bundle", tmp_path / "moved")
    assert load(bundle).predict(TEXTS) == expected


@pytest.mark.parametrize("place", ["given", "given/bundle"])
def test_no_place_makes_plugins_trusted(
    plugged: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "of-somebody-else"))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "config.yaml").write_text("name: x\n")
    given = shutil.copytree(plugged / "bundle", tmp_path / place, dirs_exist_ok=True)
    (plugin,) = (given / "plugins").iterdir()
    with pytest.raises(
        nlpkit.BundleError,
        match=rf"plugins/{plugin.name}.*trust_plugins=True",
    ):
        load(tmp_path / "given")
    assert load(given, trust_plugins=True).predict(TEXTS)


def test_a_changed_plugin_of_a_bundle_is_never_executed(plugged: Path) -> None:
    (plugin,) = (plugged / "bundle" / "plugins").iterdir()
    plugin.write_text(plugin.read_text().replace("nn", "xx", 1))
    with pytest.raises(nlpkit.BundleError, match=rf"{plugin.name}: is damaged"):
        load(plugged, trust_plugins=True)


@pytest.mark.parametrize(
    "options",
    [
        {"device": "gpu"},
        {"device": 5},
        {"device": "cuda:99"},
        {"precision": "bf16"},
        {"precision": "half"},
    ],
)
def test_a_device_or_precision_that_is_not_there_is_an_error(
    run: Path, options: dict[str, str]
) -> None:
    with pytest.raises(nlpkit.InputError, match=str(next(iter(options.values())))):
        load(run, **options)  # type: ignore[arg-type]


def test_precision_auto_predicts_nearly_the_same(run: Path) -> None:
    exact, quick = load(run).predict(TEXTS), load(run, precision="auto").predict(TEXTS)
    for one, other in zip(exact, quick, strict=True):
        assert one.score == pytest.approx(other.score, abs=0.05)


def test_a_missing_plugin_is_named_with_where_it_came_from(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLPKIT_DISABLED_PLUGINS", "transformer")
    with pytest.raises(
        nlpkit.PluginError, match=r'"transformer"(.|\n)*made with transformer \(nlpkit-sdk '
    ):
        load(run)
