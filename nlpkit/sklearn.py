"""A classifier of texts for scikit-learn, which is imported here alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
except ModuleNotFoundError as error:
    message = "nlpkit.sklearn needs scikit-learn: pip install 'nlpkit-sdk[sklearn]'"
    raise ModuleNotFoundError(message, name=error.name) from error
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from nlpkit.bundle.load import load
from nlpkit.bundle.texts import columns_of
from nlpkit.config.load import load_config
from nlpkit.config.resolve import build, resolve
from nlpkit.errors import InputError
from nlpkit.plugin.host import Host
from nlpkit.run.train import train

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nlpkit.bundle.predict import Model
    from nlpkit.config.schema import Config


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trains what a config says, on texts with one label each.

    A pickle of it holds the trained model, and needs no other file.

    Args:
        config: What `nlpkit.load_config` takes; its data are those that `fit` is given, and it
            needs no name.
        options: Keys of the config, with two underscores for each dot: `train__epochs=3`. They are
            parameters as others, for a search too.

    Attributes:
        classes_: The labels, sorted.
        result_: What result.json of the run held.
        history_: The lines of its metrics.jsonl.
    """

    def __init__(
        self, config: Mapping[str, Any] | str | Path | None = None, **options: Any
    ) -> None:
        self.config, self.options = config, options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name; `deep` says nothing here."""
        return {"config": self.config, **self.options}

    def set_params(self, **params: Any) -> Classifier:
        """Takes other values of parameters."""
        self.config = params.pop("config", self.config)
        self.options = {**self.options, **params}
        return self

    def fit(self, X: Any, y: Any) -> Classifier:
        """Trains anew; `data.validation` of the rows, by default a tenth, choose the best model.

        Args:
            X: Texts, [rows]; pairs of them, [rows, 2], where the task has two text columns.
            y: Labels, [rows].

        Raises:
            InputError: As `nlpkit.train`; it is a ValueError.
        """
        if y is None:
            raise ValueError("Classifier requires y to be passed, but the target y is None")
        labels, texts = column_or_1d(y, warn=True), _listed(X)
        check_consistent_length(texts, labels)
        check_classification_targets(labels)
        classes = np.unique(labels)
        if len(classes) < 2:
            raise InputError("y has 1 class; a classifier tells at least 2 apart")
        config = self._config()
        rows = [*_rows(config, texts, labels.tolist())]
        with TemporaryDirectory(prefix="nlpkit-") as folder:
            run = train(config, data={"train": rows}, out=Path(folder) / "run")
            self.result_, self.history_ = run.result, run.history
            self._bundle = {
                str(path.relative_to(run.bundle)): path.read_bytes()
                for path in run.bundle.rglob("*")
                if path.is_file()
            }
        self._device, self.classes_ = config.device, classes
        self._model = self._loaded()
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest label of each text, [rows]."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> np.ndarray:
        """How likely each label is, [rows, labels], in the order of `classes_`.

        Raises:
            InputError: As `Model.predict`.
        """
        check_is_fitted(self)
        found = self._model.probabilities(_listed(X))
        names = [str(label) for label in self._model.labels]
        return found[:, [names.index(str(label)) for label in self.classes_.tolist()]]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.string = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_bundle" in state:
            self._model = self._loaded()

    def _config(self) -> Config:
        given = self.options.items()
        keys = [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in given]
        source = {} if self.config is None else self.config
        if isinstance(source, Mapping):
            source = {"name": "classifier", **source}
        return load_config(source, keys)

    def _loaded(self) -> Model:
        with TemporaryDirectory(prefix="nlpkit-") as folder:
            for name, content in self._bundle.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            return load(folder, device=self._device)


def _listed(X: Any) -> list[Any]:
    """Texts, or tuples of them."""
    rows = np.asarray(X, dtype=object) if hasattr(X, "columns") else X
    found = rows.tolist() if hasattr(rows, "tolist") else list(rows)
    return [tuple(row) if isinstance(row, list) else row for row in found]


def _rows(config: Config, texts: Sequence[Any], labels: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Rows as the config's task reads them."""
    host = Host.discover()
    task = resolve(config, host).task
    label = task.options.get("label")
    if task.name != "sequence" or task.options["target"] != "class" or not isinstance(label, str):
        raise InputError("Classifier trains the task sequence, with target class and one label")
    columns = columns_of(build(task, "task", host))
    for number, (row, name) in enumerate(zip(texts, labels, strict=True)):
        cells = row if isinstance(row, tuple) else (row,)
        if len(cells) != len(columns):
            message = f"X[{number}] has {len(cells)} texts, and the config's task {len(columns)}"
            raise InputError(message)
        target = str(name) if isinstance(name, float) else name
        yield dict(zip(columns, cells, strict=True)) | {label: target}
