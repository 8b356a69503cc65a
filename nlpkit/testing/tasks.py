"""Checks that a task, its codec, its objective and its metrics keep their contracts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace

from nlpkit.contracts import GraphSpec, Pieces, Row, Task, Windows
from nlpkit.data.encode import Encoder, in_pieces, packed
from nlpkit.data.vocabulary import vocabulary_of
from nlpkit.errors import DataError, NlpkitError, PluginError
from nlpkit.metrics import of_predictions
from nlpkit.plugin.imports import blaming
from nlpkit.testing.batches import check_batch
from nlpkit.testing.expect import expect
from nlpkit.testing.metrics import check_metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nlpkit.contracts import (
        Arrays,
        Batch,
        Codec,
        Example,
        HeadSpec,
        Objective,
        Prediction,
        Schema,
        TextInput,
        Use,
    )

_WINDOW = 8  # tokens: short texts have several
_LONGEST = 512  # tokens, where no text comes in windows
_NEEDS = 'a part says needs="ids", but its examples depend on more than ids and type ids'
_RESERVED = {"text", "error"}  # what lines of predictions hold beside the fields


def check_task(
    task: Task,
    rows: Sequence[Row],
    *,
    objective: Callable[[Schema], Objective] | None = None,
    tokenizer: Tokenizer | None = None,
) -> tuple[Codec, Batch]:
    """Takes rows through a task: texts, schema, examples, batches, loss, metrics, predictions.

    Args:
        task: The task.
        rows: Good rows of different lengths.
        objective: Makes the objective from the schema; without it no loss and no metric is checked.
        tokenizer: By default one that makes a token of each letter. Windows and pieces are of 8
            tokens, so that short texts have several.

    Returns:
        The codec, and the batch of all rows with their targets.

    Raises:
        PluginError: Something is not as `nlpkit.contracts` says.
    """
    name = f"task {type(task).__name__}"
    expect(name, isinstance(task, Task), "is no nlpkit.contracts.Task")
    with blaming(name, NlpkitError):
        return _checked(name, task, rows, objective, tokenizer)


def _checked(
    name: str,
    task: Task,
    rows: Sequence[Row],
    objective: Callable[[Schema], Objective] | None,
    tokenizer: Tokenizer | None,
) -> tuple[Codec, Batch]:
    texts = _texts(name, task, rows)
    schema = _schema(name, task, rows)
    tokenizer = tokenizer or _letters(chain.from_iterable(each.values() for each in texts))
    codec = _codec(name, task, schema, tokenizer, texts[0])
    batches = {}
    for use in ("train", "evaluate", "predict"):
        examples = _examples(name, task, codec, tokenizer, rows, use)
        batches[use] = check_batch(name, codec, examples)
    if objective is not None:
        for use in ("train", "evaluate"):
            outputs = _outputs(objective(schema), codec, *batches[use])
        parts = batches["evaluate"][1] if of_predictions(codec.metrics()) else ()
        told: list[Any] = [codec.gold(part) or _decoded(name, codec, part) for part in parts]
        for place, metric in enumerate(codec.metrics()):
            fresh = lambda place=place: codec.metrics()[place]  # noqa: E731
            given = told if of_predictions([metric]) else outputs
            check_metric(fresh, given, batches["evaluate"][1])
    whole, _ = batches["evaluate"]
    _check_predictions(name, codec, whole, batches["predict"][0], len(rows))
    return codec, whole


def _texts(name: str, task: Task, rows: Sequence[Row]) -> list[Mapping[str, TextInput]]:
    """The texts of the rows with targets; those without need no more than prediction fills."""
    columns: Any = task.columns
    mapping = isinstance(columns, Mapping) and not any(isinstance(e, str) for e in columns.values())
    expect(name, mapping, f"`columns` must map each part to a list of columns: {columns}")
    without, named, found = "texts without targets", f"`columns` names {_list(columns)}", []
    for row in rows:
        try:
            texts = task.texts(_filled(task, row), targets=False)
        except DataError as error:
            more = "need more than the columns that prediction fills"
            raise PluginError(f"{name}: {without} {more} ({error})") from error
        expect(name, texts.keys() == columns.keys(), f"{without} gives {_list(texts)}, but {named}")
        found.append(task.texts(row, targets=True))
        for text in chain(texts.values(), found[-1].values()):
            words = text if isinstance(text, tuple | list) else [text]
            all_texts = all(isinstance(word, str) for word in words)
            expect(name, all_texts, f"texts gives {text!r}, which is no text")
    return found


def _filled(task: Task, row: Row) -> Row:
    """A row as prediction has it."""
    columns = chain.from_iterable(task.columns.values())
    return Row({column: row.values.get(column) for column in columns}, row.address)


def _schema(name: str, task: Task, rows: Sequence[Row]) -> Schema:
    schema = task.fit(rows)
    try:
        plain = json.loads(json.dumps(schema)) == schema
    except (TypeError, ValueError):
        plain = False
    expect(name, plain, f"the schema is no plain JSON: {schema}")
    again = task.fit(iter(rows))
    expect(name, again == schema, "the schema of the same rows differs from call to call")
    return schema


def _codec(
    name: str,
    task: Task,
    schema: Schema,
    tokenizer: Tokenizer,
    texts: Mapping[str, TextInput],
) -> Codec:
    """The codec, with a longest input that makes several windows of short texts."""
    codec = task.codec(schema, vocabulary_of(tokenizer, _LONGEST))
    gives = f"texts gives {_list(texts)}, but `parts` of the codec names {_list(codec.parts)}"
    expect(name, codec.parts.keys() == texts.keys(), gives)
    none = f'head.over is "{codec.head.over}", which is none of the inputs {_list(codec.inputs)}'
    expect(name, codec.head.over in codec.inputs, none)
    longs = [part.long for part in codec.parts.values()]
    if not any(isinstance(each, Windows | Pieces) for each in longs):
        return codec
    shared = max(each.overlap or 0 if isinstance(each, Windows) else 0 for each in longs)
    return task.codec(schema, vocabulary_of(tokenizer, _WINDOW + 2 * shared))


def _examples(
    name: str, task: Task, codec: Codec, tokenizer: Tokenizer, rows: Sequence[Row], use: Use
) -> list[Example]:
    """The examples of the rows, alike, from whole encodings and from those without tokens."""
    if use == "predict":
        rows = [_filled(task, row) for row in rows]
    whole = copy(codec)
    whole.parts = {part: replace(each, needs="words") for part, each in codec.parts.items()}
    examples = list(_encoded(name, Encoder(task, whole, tokenizer), rows, use))
    kinds = {
        tuple(sorted((key, str(np.asarray(each[key]).dtype), np.ndim(each[key])) for key in each))
        for each in examples
    }
    alike, flat = len(kinds) == 1, all(depth <= 1 for kind in kinds for _, _, depth in kind)
    expect(name, alike, f"examples need the same keys and dtypes in each row ({use})")
    expect(name, flat, f"an example holds scalars and 1-D arrays alone ({use})")
    if whole.parts == codec.parts:
        return examples
    try:
        again = list(_encoded(name, Encoder(task, codec, tokenizer), rows, use))
    except Exception as error:
        raise PluginError(f"{name}: {_NEEDS} ({type(error).__name__}: {error})") from error
    for one, other in zip(again, examples, strict=True):
        expect(name, all(np.array_equal(one[key], other[key]) for key in other), _NEEDS)
    return examples


def _encoded(name: str, encoder: Encoder, rows: Sequence[Row], use: Use) -> Iterator[Example]:
    def samples() -> Iterator[tuple[Example, str]]:
        for each in encoder.encoded(rows, use):
            if isinstance(each.example, DataError):
                raise PluginError(f"{name}: a good row is refused ({use}): {each.example}")
            whole = [each.example]
            found = whole if use == "predict" else encoder.codec.samples(each.example, use)
            yield from ((sample, each.row.address) for sample in found)

    packs = use == "train" and encoder.codec.pack
    for example, _ in packed(encoder.codec, samples()) if packs else samples():
        yield example


def _outputs(
    objective: Objective, codec: Codec, batch: Batch, parts: Sequence[Batch]
) -> list[np.ndarray]:
    """What metrics get of each sample. The loss is a sum: those of samples add up to a batch's."""
    import torch

    def tensors(of: Batch) -> tuple[dict[str, Any], Any]:
        rows = None if of.rows is None else torch.as_tensor(of.rows)
        return {key: torch.as_tensor(value) for key, value in of.targets.items()}, rows

    logits = _noise(codec.head, batch.inputs)
    whole = objective.total(torch.as_tensor(logits), *tensors(batch))
    calls = [
        (torch.as_tensor(own), *tensors(part))
        for own, part in zip(_own(codec, logits, parts), parts, strict=True)
    ]
    summed = sum(objective.total(*call).item() for call in calls)
    exact = torch.finfo(whole.dtype).eps if whole.is_floating_point() else 0.0
    tolerance = min(max(1e-9, 1_000 * exact), 0.05)  # what a sum of such numbers loses, at most
    expect(
        f"objective {type(objective).__name__}",
        whole.numel() == 1 and np.isclose(whole.item(), summed, rtol=tolerance),
        f"the total of a batch is {whole.tolist()}, but its samples' totals add up to {summed}; "
        "a total is a SUM over the samples, never a mean, and padding adds nothing",
    )
    return [objective.output(*call).numpy() for call in calls]


def _own(codec: Codec, logits: np.ndarray, parts: Sequence[Batch]) -> Iterator[np.ndarray]:
    """The logits of each sample without the padding of its neighbours."""
    start = 0
    for part in parts:
        rows, *others = codec.head.shape(part.inputs)
        yield logits[(slice(start, start + rows), *map(slice, others))]
        start += rows


def _noise(head: HeadSpec, inputs: Mapping[str, Any]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=head.shape(inputs))


class _Engine:
    """Gives logits of the shape that the head says, whatever it is asked."""

    def __init__(self, name: str, codec: Codec) -> None:
        logits = codec.head.axes(codec.inputs)
        spec = GraphSpec(inputs=codec.inputs, outputs={"logits": logits})
        self.graphs: Mapping[str, GraphSpec] = {"model": spec, "encoder": spec}
        self._name, self._codec = name, codec

    def run(self, inputs: Arrays, graph: str = "model") -> dict[str, np.ndarray]:
        head, wanted = self._codec.head, {*self._codec.inputs}
        if head.level == "target":  # what is written goes in as that of a task without a source
            wanted.discard(head.over)
            head = replace(head, over="input_ids")
        missing = sorted(wanted - inputs.keys())
        expect(self._name, not missing, f"predict gives no {_list(missing)}")
        return {"logits": _noise(head, inputs).astype(np.float32)}


def _check_predictions(name: str, codec: Codec, whole: Batch, batch: Batch, samples: int) -> None:
    """What it says of a batch with targets, and of one for prediction."""
    targets = f"a batch for prediction has the targets {_list(batch.targets)}"
    expect(name, not batch.targets, targets)
    wholes = [] if in_pieces(codec) else [whole]
    gold = codec.gold(whole) if wholes else None
    for each in (*wholes, batch):
        found = _decoded(name, codec, each)
        gives = f"decode gives {len(found)} predictions for {samples} samples"
        expect(name, len(found) == samples, gives)
    try:
        json.dumps([each.row() for each in found])
    except TypeError as error:
        raise PluginError(f"{name}: a field of a prediction is no plain JSON: {error}") from error
    taken = {field for each in found for field in _RESERVED & vars(each).keys()}
    expect(name, not taken, f"a prediction has the reserved field {_list(sorted(taken))}")
    ranks = all(isinstance(getattr(each, codec.ranked, None), Mapping) for each in found)
    maps = f'`ranked` is "{codec.ranked}", but no field of that name maps labels to values'
    expect(name, not codec.ranked or ranks, maps)
    of = f"gold gives {len(gold or ())} predictions for {samples} samples"
    expect(name, gold is None or len(gold) == samples, of)


def _decoded(name: str, codec: Codec, batch: Batch) -> list[Prediction]:
    """What is predicted of a batch by noise."""
    outputs = codec.predict(_Engine(name, codec), batch, codec.settings({}))
    return codec.decode(outputs, batch)


def _letters(texts: Iterable[TextInput]) -> Tokenizer:
    """A token a letter, so that words have several."""
    words = chain.from_iterable([text] if isinstance(text, str) else text for text in texts)
    ids = {letter: number for number, letter in enumerate(["[UNK]", *sorted(set("".join(words)))])}
    tokenizer = Tokenizer(BPE(ids, [], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
