"""Predictions of a loaded bundle, whichever engine runs its model. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nlpkit.bundle.fields import check_count, check_ranked, keep_best
from nlpkit.bundle.format import DESCRIPTION
from nlpkit.bundle.texts import Text, columns_of, usable
from nlpkit.bundle.tokenizer import read_tokenizer
from nlpkit.cli.notebook import LONGEST, pairs
from nlpkit.config.resolve import build
from nlpkit.contracts import Codec, Prediction, Row
from nlpkit.data.encode import Encoder
from nlpkit.data.plan import evaluation_plan
from nlpkit.engine.generate import shape_of, sizes_of
from nlpkit.engine.search import grown
from nlpkit.errors import BundleError, DataError, InputError, PluginError
from nlpkit.plugin.imports import blaming

if TYPE_CHECKING:
    from nlpkit.bundle.format import Bundle
    from nlpkit.contracts import Arrays, Batch, Engine, Example, GraphSpec, Task, Use
    from nlpkit.plugin.host import Host
    from nlpkit.plugin.records import TaskRecord

WINDOW, WRITTEN = 64, 4
"""Batches that are sorted by length together: padding stays small, and memory constant. Texts that
are written take long, and few are lost where it ends early."""

_SCORES = 1 << 22
"""Scores of a window, at most, where there are many labels: a Python number takes 32 bytes."""

_Numbered = tuple[int, Text | Row | DataError | None]

_TYPES: dict[str, Callable[[str], Any]] = {"int": int, "bool": "true".__eq__}


class Model:
    """A trained model that predicts texts; `nlpkit.load` gives it.

    Args:
        bundle: Where it was loaded from.
        host: Has the plugins of its components.
        engine: Gives what runs the network.
        again: Loads it once more, in another process too: a pickled model is this and its seal.

    Attributes:
        writes: Whether its task writes texts.
    """

    def __init__(
        self,
        bundle: Bundle,
        host: Host,
        engine: Callable[[Codec], Engine],
        *,
        again: Callable[[], Model],
    ) -> None:
        self.bundle, self.host, self._again = bundle, host, again
        self.task: Task = build(bundle.task, "task", host)
        self.writes = cast("TaskRecord", host.entry("task", bundle.task.name).record).writes
        self.tokenizer = read_tokenizer(bundle.path, bundle.vocabulary.size)
        try:
            with blaming(""):
                vocabulary = replace(bundle.vocabulary, tokenizer=self.tokenizer)
                self.codec: Codec = self.task.codec(bundle.schema, vocabulary)
                head: object = self.codec.head
        except PluginError as error:
            head = error
        if head != bundle.head:
            problem = f"what it says of the labels does not fit its model: {head}, {bundle.head}"
            raise BundleError(f"{bundle.path / DESCRIPTION}: {problem}")
        self.engine = engine(self.codec)
        try:
            with blaming(""):
                self.encoder = Encoder(self.task, self.codec, self.tokenizer)
                self._try()
        except PluginError as error:
            problem = f"what it describes does not predict ({error})"
            raise BundleError(f"{bundle.path / DESCRIPTION}: {problem}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, (self._again, self.bundle.description["seal"])

    def __repr__(self) -> str:
        facts = self._facts()
        return f"<Model {', '.join(f'{name}: {facts[name]}' for name in facts)}>"

    def _repr_html_(self) -> str:
        return pairs(self._facts())

    def _facts(self) -> dict[str, Any]:
        """What is worth knowing of it, by name."""
        labels, bundle = list(map(str, self.labels)), self.bundle
        more = f", … ({len(labels):,})" if len(labels) > LONGEST else ""
        found = {
            "task": bundle.task.name,
            "labels": ", ".join(labels[:LONGEST]) + more,
            "model": bundle.model.name,
            "longest text": f"{bundle.vocabulary.max_length} tokens",
            "runs with": bundle.exported.name if bundle.exported else "torch",
            "bundle": bundle.path.absolute(),
        }
        return {name: fact for name, fact in found.items() if fact}

    @property
    def window(self) -> int:
        """How many batches are ordered by length together; few where each takes long."""
        return WINDOW if type(self.codec).writing is Codec.writing else WRITTEN

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the texts that are predicted."""
        return columns_of(self.task)

    @property
    def labels(self) -> list[Any]:
        """The labels, in the order of `scores`: as text, or as the numbers or booleans that the
        training rows had."""
        schema = self.bundle.schema
        typed = _TYPES.get(schema.get("type", ""), str)
        return [typed(label) for label in schema.get("labels", ())]

    def predict(
        self,
        texts: Iterable[Text],
        *,
        batch_size: int = 64,
        top_k: int | None = None,
        generate: Mapping[str, Any] | None = None,
    ) -> list[Prediction]:
        """One prediction for each text, in the order of the texts.

        Args:
            texts: Any iterable of strings, of pairs where the task has two text columns, or of
                lists of words where it takes them.
            batch_size: Texts (or windows of long ones) that go through the model together; it does
                not change what comes out, but for scores of rounded weights (int8) a little.
            top_k: How many labels a prediction gives the score of, the best first; None: all, in
                the order of the labels.
            generate: Of a task that writes texts, how: {"max_tokens": 20, "method": "beam"}; what
                is not named is as the run's config has it.

        Raises:
            DataError: A text is missing, empty or no text; it says which (`text 3` is texts[3]).
            InputError: `batch_size` or `top_k` is below 1, there are no labels to choose from, or
                nothing can be generated so.
        """
        options: Any = {"batch_size": batch_size, "top_k": top_k, "generate": generate}
        return list(self.predict_iter(texts, **options))

    def probabilities(self, texts: Iterable[Text], *, batch_size: int = 64) -> np.ndarray:
        """How likely each label is, float64 [texts, labels], in the order of `labels`.

        Args:
            texts: As `predict` has them.
            batch_size: As `predict` has it.

        Raises:
            DataError: As `predict`.
            InputError: As `predict`; the task predicts no labels.
        """
        check_ranked(ranked := self.codec.ranked, "probabilities")
        predictions = self.predict_iter(texts, batch_size=batch_size)
        rows = [np.fromiter(getattr(each, ranked).values(), float) for each in predictions]
        return np.array(rows).reshape(len(rows), len(self.labels))

    def predict_iter(self, texts: Iterable[Text], **options: Any) -> Iterator[Prediction]:
        """`predict` for endless many texts: constant memory, predictions as they come."""
        for outcome in self.outcomes(texts, **options):
            if isinstance(outcome, DataError):
                raise outcome
            yield outcome

    def outcomes(
        self,
        texts: Iterable[Text | Row | DataError | None],
        *,
        batch_size: int = 64,
        top_k: int | None = None,
        generate: Mapping[str, Any] | None = None,
    ) -> Iterator[Prediction | DataError]:
        """`predict_iter` that gives what is wrong with a text in the place of its prediction.

        Args:
            texts: Texts, or what a source gives: rows with the task's text columns, and errors.
            batch_size: Texts that go through the model together.
            top_k: As `predict` has it.
            generate: As `predict` has it.
        """
        single = isinstance(texts, str | bytes | Mapping) or hasattr(texts, "columns")
        if single or not isinstance(texts, Iterable):
            raise InputError(
                f"predict takes a list of texts, not a {type(texts).__name__}: "
                "put one text into a list, and take the column of a table"
            )
        check_count("batch_size", batch_size)
        if top_k is not None:
            check_count("top_k", top_k)
            check_ranked(self.codec.ranked)
        settings, batches = self.codec.settings(generate or {}), self.window
        numbered = enumerate(texts)
        while batches > 1 and batches * batch_size * self.bundle.head.size > _SCORES:
            batches //= 2
        while window := list(islice(numbered, batches * batch_size)):
            for outcome in self._window(window, batch_size, settings):
                if top_k is not None and not isinstance(outcome, DataError):
                    keep_best(outcome, top_k, self.codec.ranked)
                yield outcome

    def stream(self, text: Text, *, generate: Mapping[str, Any] | None = None) -> Iterator[str]:
        """What a task that writes says of a text, in pieces, as soon as they are sure.

        Together they are what `predict` gives, as long as the tokenizer changes nothing that stood
        before (as `wordpiece` does). A beam search is sure of nothing before its end.

        Raises:
            DataError: As `predict`.
            InputError: The task writes no texts, or nothing can be generated so.
        """
        told = ""
        for _, said, outcome in self.writing([text], generate=generate):
            if isinstance(outcome, DataError):
                raise outcome
            if piece := grown(told, said()):
                yield piece
                told += piece

    def writing(
        self,
        texts: Iterable[Text | Row | DataError | None],
        *,
        generate: Mapping[str, Any] | None = None,
        stopped: Callable[[int], bool] = lambda number: False,
    ) -> Iterator[tuple[int, Callable[[], str], Prediction | DataError | None]]:
        """`outcomes` of a task that writes, told token by token; all texts in one batch.

        Args:
            texts: As `outcomes` has it.
            generate: As `predict` has it.
            stopped: Whether the text of this number is to end now, asked after each of its tokens.

        Returns:
            Whenever a text has grown: its number, what gives the part of it that is sure, and its
            outcome at its end.
        """
        settings = self.codec.settings(generate or {})
        found, usable = self._made([*enumerate(texts)], settings)
        yield from ((at, str, each) for at, each in enumerate(found) if at not in usable)
        if usable:
            batch = self._collated([found[at] for at in usable])
            steps = self.codec.writing(
                self.engine, batch, settings, lambda row: stopped(usable[row])
            )
            yield from ((usable[row], said, outcome) for row, said, outcome in steps)

    def batch(self, texts: Iterable[Text | Row], *, targets: bool = False) -> Batch:
        """The texts as the model takes them; with the targets that rows have."""
        rows = _all(usable(self.task, text, f"text {number}") for number, text in enumerate(texts))
        if not targets:
            made, settings = self.examples(rows), self.codec.settings({})
            return self._collated(_all(map(self._fitting, rows, made, repeat(settings))))
        found = _all(self.examples(rows, "evaluate"))
        samples = (self.codec.samples(each, "evaluate") for each in found)
        return self._collated([*chain.from_iterable(samples)])

    def examples(self, rows: Iterable[Row], use: Use = "predict") -> Iterator[Example | DataError]:
        """The examples of rows, or why one has none."""
        return (each.example for each in self.encoder.encoded(rows, use))

    def predicted(self, batch: Batch, settings: Any = None) -> list[Prediction]:
        """What the model says of a batch."""
        settings = self.codec.settings({}) if settings is None else settings
        return self.codec.decode(self.codec.predict(self.engine, batch, settings), batch)

    def _try(self) -> None:
        """What each prediction does but the model: parts that do not fit are found before it."""
        _, (columns, *_) = self.labels, self.task.columns.values()
        try:
            batch = self.batch(["a text" if len(columns) < 2 else ("a text",) * len(columns)])
        except DataError:  # the task wants other texts
            return
        longest = self.bundle.vocabulary.max_length
        if sizes_of(self.codec.inputs, batch.inputs).get("tokens", 0) > longest:
            raise PluginError(f"{longest} tokens have no room for the special ones")
        settings = self.codec.settings({})
        outputs = self.codec.predict(_Blank(self.bundle.graphs), batch, settings)
        found = len(self.codec.decode(outputs, batch))
        if found != 1:
            raise PluginError(f"its task makes {found} predictions of one text")

    def _window(
        self, window: Sequence[_Numbered], batch_size: int, settings: Any
    ) -> list[Prediction | DataError]:
        outcomes, usable = self._made(window, settings)
        lengths = [self.codec.lengths(outcomes[at]) for at in usable]
        tokens = np.array([sum(map(sum, rows)) for rows in lengths], np.int64)
        counts = np.array(list(map(len, lengths)), np.int64)
        for chosen in evaluation_plan(tokens, batch_size=batch_size, rows=counts):
            places = [usable[at] for at in chosen]
            batch = self._collated([outcomes[place] for place in places])
            predictions = self.predicted(batch, settings)
            for place, prediction in zip(places, predictions, strict=True):
                outcomes[place] = prediction
        return outcomes

    def _made(self, window: Sequence[_Numbered], settings: Any) -> tuple[list[Any], list[int]]:
        """The examples, errors among them, and the places of those that are none."""
        rows = [usable(self.task, text, f"text {number}") for number, text in window]
        made = iter([*self.examples(row for row in rows if isinstance(row, Row))])
        found = [
            self._fitting(row, next(made), settings) if isinstance(row, Row) else row
            for row in rows
        ]
        return found, [at for at, each in enumerate(found) if not isinstance(each, DataError)]

    def _fitting(self, row: Row, example: Example | DataError, settings: Any) -> Any:
        """The example, or why it cannot be predicted."""
        if isinstance(example, DataError) or not (why := self.codec.refusal(example, settings)):
            return example
        return DataError(row.address, problem=why)

    def _collated(self, examples: list[Example]) -> Batch:
        return self.codec.collate(examples, [0] * len(examples))


class _Blank:
    """An engine that knows what its graphs take and give, and gives zeros."""

    def __init__(self, graphs: Mapping[str, GraphSpec]) -> None:
        self.graphs = graphs

    def run(self, inputs: Arrays, graph: str = "model") -> dict[str, np.ndarray]:
        spec = self.graphs[graph]
        if unknown := spec.inputs.keys() - inputs.keys():
            raise PluginError(f"the task does not give {', '.join(sorted(unknown))}")
        sizes = sizes_of(spec.inputs, inputs)
        return {
            name: np.zeros(shape_of(axes, sizes, other=1), np.float32)
            for name, axes in spec.outputs.items()
        }


def _all(found: Iterable[Any]) -> list[Any]:
    """What was found. Raises the first DataError in its place."""
    everything = []
    for each in found:
        if isinstance(each, DataError):
            raise each
        everything.append(each)
    return everything


def _loaded(again: Callable[[], Model], seal: str) -> Model:
    """What a pickled model becomes. Raises BundleError where another one lies there now."""
    model = again()
    if model.bundle.description["seal"] != seal:
        raise BundleError(
            f"{model.bundle.path}: holds another model than the one that was pickled; load it anew"
        )
    return model
