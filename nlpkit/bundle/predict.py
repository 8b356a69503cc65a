"""Prediction from a run folder or a bundle, without an import of torch: the engine is named."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

from tokenizers import Tokenizer

from nlpkit.bundle.format import Bundle, read_bundle
from nlpkit.config.resolve import build
from nlpkit.contracts import Batch, Example, Prediction, Row
from nlpkit.errors import BundleError, DataError, InputError, PluginError
from nlpkit.plugin.host import Host, Origin
from nlpkit.plugin.trust import trusted

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from nlpkit.contracts import Task

Text = str | tuple[str, ...]
"""One text, or a pair of texts for a task with two text columns."""

_WINDOW = 64
"""Batches that are sorted by length together: padding stays small, and memory constant."""


class Engine(Protocol):
    """Runs a bundle's model, whichever library does it."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits of a batch, float32."""


class Model:
    """A trained model that predicts texts; `nlpkit.load` gives it.

    Args:
        bundle: Where it was loaded from.
        host: Has the plugins of its components.
        engine: Runs the network.
    """

    def __init__(self, bundle: Bundle, host: Host, engine: Engine) -> None:
        self.bundle, self.host, self.engine = bundle, host, engine
        self.task: Task = build(bundle.task, "task", host)
        self.tokenizer = Tokenizer.from_file(str(bundle.tokenizer_path))

    def predict(self, texts: Iterable[Text], *, batch_size: int = 64) -> list[Prediction]:
        """One prediction for each text, in the order of the texts.

        Args:
            texts: Any iterable of strings (or of pairs, where the task has two text columns).
            batch_size: Texts that go through the model together; it does not change what comes out.

        Raises:
            DataError: A text is missing, empty or no text; it says which (`text 3` is texts[3]).
        """
        return list(self.predict_iter(texts, batch_size=batch_size))

    def predict_iter(self, texts: Iterable[Text], *, batch_size: int = 64) -> Iterator[Prediction]:
        """`predict` for endless many texts: constant memory, predictions as they come."""
        for outcome in self.outcomes(texts, batch_size=batch_size):
            if isinstance(outcome, DataError):
                raise outcome
            yield outcome

    def outcomes(
        self, texts: Iterable[Text | Row | DataError | None], *, batch_size: int = 64
    ) -> Iterator[Prediction | DataError]:
        """`predict_iter` that gives what is wrong with a text in the place of its prediction.

        Args:
            texts: Texts, or what a source gives: rows with the task's text columns, and errors.
            batch_size: Texts that go through the model together.
        """
        single = isinstance(texts, str | bytes | Mapping) or hasattr(texts, "columns")
        if single or not isinstance(texts, Iterable):
            raise InputError(
                f"predict takes a list of texts, not a {type(texts).__name__}: "
                "put one text into a list, and take the column of a table"
            )
        check_batch_size(batch_size)
        numbered = enumerate(texts)
        while window := list(islice(numbered, _WINDOW * batch_size)):
            yield from self._window(window, batch_size)

    def batch(self, texts: Iterable[Text]) -> Batch:
        """The texts as the model takes them, without targets."""
        rows = [self._row(text, f"text {number}") for number, text in enumerate(texts)]
        return self._collated(self._encoded(rows))

    def _window(
        self, window: list[tuple[int, Text | Row | DataError | None]], batch_size: int
    ) -> list[Prediction | DataError]:
        outcomes: dict[int, Prediction | DataError] = {}
        rows: dict[int, Row] = {}
        for number, text in window:
            try:
                rows[number] = self._usable(text, f"text {number}")
            except DataError as error:
                outcomes[number] = error
        examples = dict(zip(rows, self._encoded(list(rows.values())), strict=True))
        by_length = sorted(examples, key=lambda number: len(examples[number]["input_ids"]))
        for start in range(0, len(by_length), batch_size):
            chosen = by_length[start : start + batch_size]
            batch = self._collated([examples[number] for number in chosen])
            predictions = self.task.decode(self.engine.run(batch.inputs), batch, self.bundle.schema)
            outcomes.update(zip(chosen, predictions, strict=True))
        return [outcomes[number] for number, _ in window]

    def _usable(self, text: Text | Row | DataError | None, address: str) -> Row:
        if isinstance(text, DataError):
            raise text
        row = text if isinstance(text, Row) else self._row(text, address)
        try:
            "".join(self.task.texts(row)).encode()
        except UnicodeEncodeError:
            problem = "holds half a surrogate pair, which is no character"
            raise DataError(row.address, problem=problem) from None
        return row

    def _row(self, text: Any, address: str) -> Row:
        columns = self.task.text_columns
        several = isinstance(text, tuple | list)
        if several and len(columns) == 1:
            raise DataError(address, value=text, problem="is a pair; the task takes single texts")
        if len(columns) > 1 and not (several and len(text) == len(columns)):
            named = " and ".join(columns)
            raise DataError(address, value=text, problem=f"is not a pair of texts ({named})")
        values = [None if _absent(each) else each for each in (text if several else [text])]
        return Row(dict(zip(columns, values, strict=True)), address)

    def _encoded(self, rows: list[Row]) -> list[Example]:
        texts = [self.task.texts(row) for row in rows]
        words = bool(texts) and isinstance(texts[0], list)
        encodings = self.tokenizer.encode_batch(texts, is_pretokenized=words)
        return [
            self.task.encode(row, encoding, self.bundle.schema, targets=False)
            for row, encoding in zip(rows, encodings, strict=True)
        ]

    def _collated(self, examples: list[Example]) -> Batch:
        return self.task.collate(examples, [0] * len(examples))


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    trust_plugins: bool = False,
) -> Model:
    """A trained model, from a run folder or a bundle; nothing else is needed, and no network.

    Args:
        path: The run folder, or the bundle's own folder.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: "fp32", or "auto": what training would take on the device.
        trust_plugins: Whether plugins that it brings are executed even if this user has not trained
            with them here.

    Raises:
        BundleError: There is none, it is damaged, or it brings plugins that are not trusted.
        PluginError: A component's plugin is not installed.
        InputError: The device or the precision is unknown or not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(device)):
        raise InputError(f'device "{device}" is none of auto, cpu, cuda, cuda:0, cuda:1, …')
    if precision not in ("fp32", "auto"):
        raise InputError(f'precision "{precision}" is none of fp32, auto')
    bundle = read_bundle(path)
    host = host_of(bundle, trust_plugins=trust_plugins)
    try:
        module = importlib.import_module("nlpkit.bundle.torch_engine")
    except ModuleNotFoundError as error:
        raise InputError(
            f"prediction needs {error.name}, which is not here: pip install 'nlpkit-sdk[train]'"
        ) from error
    return Model(bundle, host, module.TorchEngine(bundle, host, device=device, precision=precision))


def _absent(value: object) -> bool:
    """Whether it is what pandas, which is not imported, has in the place of a missing text."""
    nan = isinstance(value, float) and value != value
    return nan or type(value).__name__ in ("NAType", "NaTType")


def check_batch_size(batch_size: object) -> None:
    """Raises InputError where it is no whole number of at least 1."""
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")


def host_of(bundle: Bundle, *, trust_plugins: bool) -> Host:
    """A host with the plugins that a bundle brings.

    Raises:
        BundleError: One is not trusted.
        PluginError: One cannot be imported, or the plugin of a component is missing.
    """
    files = {name: bundle.path / name for name in bundle.plugins if name.endswith(".py")}
    brought: list[Path | str] = [files.get(name, name) for name in bundle.plugins]
    strange = [str(plugin) for plugin in brought if not trust_plugins and not trusted(plugin)]
    if strange:
        raise BundleError(
            f"{bundle.path}: brings code that was not trained with here ({', '.join(strange)}), "
            "which is not executed unless you trust it: read it, then use --trust-plugins or "
            "trust_plugins=True"
        )
    host = Host.discover()
    host.bring(bundle.plugins, bundle.path)
    for kind in ("task", "model"):
        described = bundle.description[kind]
        try:
            host.entry(kind, described["name"])
        except PluginError as error:
            origin = Origin(
                *(str(described.get(key)) for key in ("plugin", "distribution", "version"))
            )
            raise PluginError(f"{error}\n  {bundle.path} was made with {origin}") from None
    return host
