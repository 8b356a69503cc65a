"""Checks that a task, its objective and its metrics keep their contracts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from nlpkit.contracts import WINDOWS
from nlpkit.data.windows import enable_truncation, windowed
from nlpkit.errors import PluginError
from nlpkit.testing.metrics import check_metric

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nlpkit.contracts import Batch, Example, Objective, Row, Schema, Task, TextInput

_WINDOW = 4  # tokens: short texts have several


def check_task(
    task: Task,
    rows: Sequence[Row],
    *,
    objective: Callable[[Schema], Objective] | None = None,
    tokenizer: Tokenizer | None = None,
) -> tuple[Schema, Batch]:
    """Takes rows through a task: schema, examples, batches, loss, metrics, predictions.

    Args:
        task: The task.
        rows: Good rows of different lengths.
        objective: Makes the objective from the schema; without it no loss is checked.
        tokenizer: By default one that splits at spaces, and cuts texts for a windowed task.

    Returns:
        The schema, and the batch of all rows.

    Raises:
        PluginError: Something is not as `nlpkit.contracts` says.
    """
    name = f"task {type(task).__name__}"
    schema = task.fit_schema(rows)
    if json.loads(json.dumps(schema)) != schema or task.fit_schema(iter(rows)) != schema:
        raise PluginError(f"{name}: the schema is no plain JSON, or differs from call to call")
    texts = [task.texts(row) for row in rows]
    tokenizer = tokenizer or _splitter(texts, task)
    tokens = [_encode(tokenizer, text) for text in texts]
    pairs = list(zip(rows, tokens, strict=True))
    examples = [task.encode(row, encoding, schema) for row, encoding in pairs]
    kinds = {tuple((key, np.asarray(each[key]).dtype) for key in each) for each in examples}
    if len(kinds) > 1 or "input_ids" not in examples[0]:
        raise PluginError(
            f"{name}: examples need input_ids, and the same keys and dtypes in each row"
        )
    if getattr(task, "ids_only", False):
        _check_ids_only(name, task, tokenizer, rows, schema)
    seeds = range(len(rows))
    batch = task.collate(examples, seeds)
    if windowed(task):
        _check_windows(name, examples, batch)
    parts = [task.collate([each], [seed]) for each, seed in zip(examples, seeds, strict=True)]
    _check_split(name, batch, parts)
    bare = [task.encode(row, encoding, schema, targets=False) for row, encoding in pairs]
    unlabelled = task.collate(bare, seeds)
    head = task.head(schema)
    tokens_of_rows = batch.inputs["input_ids"].shape[1:]
    shape = (len(rows), *(() if head.level == "sequence" else tokens_of_rows), head.size)
    logits = np.random.default_rng(0).normal(size=shape)
    predictions = task.decode(logits, unlabelled, schema)
    if unlabelled.targets or len(predictions) != len(rows):
        raise PluginError(f"{name}: rows without targets must give one prediction each, no targets")
    json.dumps([prediction.row() for prediction in predictions])
    cuts = (slice(part.inputs["input_ids"].shape[1]) for part in parts)
    outputs = [
        logits[row, None] if head.level == "sequence" else logits[row, None, cut]
        for row, cut in enumerate(cuts)
    ]
    if objective is not None:
        outputs = _check_objective(objective(schema), logits, batch, outputs, parts)
    for place in range(len(task.metrics(schema))):
        check_metric(lambda place=place: task.metrics(schema)[place], outputs, parts)  # type: ignore[misc]
    return schema, batch


def _check_windows(name: str, examples: Sequence[Example], batch: Batch) -> None:
    """A window is a piece of an example, and a row of a batch's inputs."""
    lengths = [example.get(WINDOWS, np.zeros(0)) for example in examples]
    tokens = [len(example["input_ids"]) for example in examples]
    if [each.sum() for each in lengths] != tokens:
        raise PluginError(f"{name}: `{WINDOWS}` of an example must be the lengths of its windows")
    counts = np.asarray(batch.inputs.get(WINDOWS, ()))
    rows = len(batch.inputs["input_ids"])
    if counts.tolist() != [len(each) for each in lengths] or counts.sum() != rows:
        raise PluginError(
            f"{name}: `{WINDOWS}` of a batch must be how many rows of its inputs each sample has"
        )


def _check_ids_only(
    name: str, task: Task, tokenizer: Tokenizer, rows: Sequence[Row], schema: Schema
) -> None:
    """Encodings without tokens, words and offsets give the same examples."""
    for row in rows:
        text = task.texts(row)
        if isinstance(text, tuple):
            continue  # encodings of pairs are whole
        words = isinstance(text, list)
        (bare,) = tokenizer.encode_batch_fast([text], is_pretokenized=words)
        example = task.encode(row, _encode(tokenizer, text), schema)
        again = task.encode(row, bare, schema)
        if not all(np.array_equal(again[key], example[key]) for key in example):
            raise PluginError(
                f"{name}: it says ids_only, but its examples depend on more than ids and type_ids"
            )


def _check_split(name: str, batch: Batch, parts: Sequence[Batch]) -> None:
    """What a batch holds of a sample depends on the sample alone, and counts add up."""
    if not np.isclose(batch.count, sum(part.count for part in parts), rtol=1e-12):
        raise PluginError(f"{name}: the count of a batch is not the sum of its samples' counts")
    start = 0  # where the inputs of a sample begin
    for row, part in enumerate(parts):
        for kind in ("inputs", "targets"):
            for key, alone in getattr(part, kind).items():
                first = start if kind == "inputs" and key != WINDOWS else row
                whole = getattr(batch, kind)[key][first : first + len(alone)]
                cut = (slice(None), *map(slice, alone.shape[1:]))
                if not np.array_equal(whole[cut], alone):
                    raise PluginError(
                        f"{name}: {kind} {key} of row {row} depends on its neighbours"
                    )
        start += len(part.inputs["input_ids"])


def _check_objective(
    objective: Objective,
    logits: np.ndarray,
    batch: Batch,
    outputs: Sequence[np.ndarray],
    parts: Sequence[Batch],
) -> list[np.ndarray]:
    """The loss is a sum: what the parts give adds up to what the whole gives, padding or not."""
    import torch

    def tensors(of: Batch) -> dict[str, Any]:
        return {key: torch.as_tensor(value) for key, value in of.targets.items()}

    name = f"objective {type(objective).__name__}"
    whole = objective.total(torch.as_tensor(logits), tensors(batch))
    pairs = [(torch.as_tensor(o), tensors(part)) for o, part in zip(outputs, parts, strict=True)]
    summed = sum(objective.total(*pair).item() for pair in pairs)
    exact = torch.finfo(whole.dtype).eps if whole.is_floating_point() else 0.0
    tolerance = min(max(1e-9, 1_000 * exact), 0.05)  # what a sum of such numbers loses, at most
    if whole.numel() != 1 or not np.isclose(whole.item(), summed, rtol=tolerance):
        raise PluginError(
            f"{name}: the total of a batch is {whole.tolist()}, but its samples' totals add up to "
            f"{summed}; a total is a SUM over the samples, never a mean, and padding adds nothing"
        )
    return [objective.output(*pair).numpy() for pair in pairs]


def _splitter(texts: Sequence[TextInput], task: Task) -> Tokenizer:
    words = " ".join(text if isinstance(text, str) else " ".join(text) for text in texts).split()
    ids = {word: number for number, word in enumerate(dict.fromkeys(["[UNK]", *words]))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    if windowed(task):
        enable_truncation(tokenizer, task, _WINDOW)
    return tokenizer


def _encode(tokenizer: Tokenizer, text: TextInput) -> Any:
    if isinstance(text, list):
        return tokenizer.encode(text, is_pretokenized=True)
    return tokenizer.encode(text) if isinstance(text, str) else tokenizer.encode(*text)
