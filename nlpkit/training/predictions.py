"""What was predicted of evaluated rows: JSON lines, each row once and in the rows' order.

Batches are ordered by length, and every rank has some: each writes its lines, with the numbers of
their rows, into a part beside the file; then one puts them in order. It remembers 12 bytes a row.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.cli.render import duration
from nlpkit.contracts import Codec
from nlpkit.files import json_text, replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nlpkit.contracts import Arrays, Batch, Engine, Prediction, Strategy
    from nlpkit.data.store import TokenStore

    Record = Callable[[Arrays, Batch], list[Prediction]]


def place(run_dir: Path, split: str) -> Path:
    """The file of a split in a run folder."""
    return run_dir / "predictions" / f"{split}.jsonl"


@contextmanager
def written(
    path: Path, codec: Codec, engine: Engine, store: TokenStore, strategy: Strategy
) -> Iterator[Record]:
    """Takes the outputs of this rank's batches; when the block of every rank ends, writes the file.

    There is no file where a row is missing, since the ranks were asked to stop.
    """
    with recorded(path, codec, engine, store, rank=strategy.rank) as record:
        yield record
    strategy.sum(np.zeros(1))  # the parts of all ranks are whole
    if strategy.rank == 0:
        put_in_order(path, ranks=strategy.size, rows=len(store))


@contextmanager
def recorded(
    path: Path,
    codec: Codec,
    engine: Engine,
    store: TokenStore,
    *,
    rank: int = 0,
    generate: Mapping[str, Any] | None = None,
) -> Iterator[Record]:
    """Takes the outputs of one rank's batches, and writes the rank's part.

    Args:
        path: The file that `put_in_order` makes of all parts; its folder is made.
        codec: Decodes them.
        engine: Runs the model anew where there are no outputs, or the codec wants more of it.
        store: Knows the rows' addresses.
        rank: Of this process.
        generate: How texts are written where that is not as the config says.
    """
    path.parent.mkdir(exist_ok=True)
    with _part(path, rank).open("wb") as file:

        def record(outputs: Arrays, batch: Batch) -> list[Prediction]:
            predictions = said(codec, engine, outputs, batch, generate=generate)
            gold = codec.gold(batch)
            for at, prediction in enumerate(predictions):
                row, fields = int(batch.ids[at]), prediction.row()
                line = {"address": store.address(row)}
                line |= {"target": next(iter(gold[at].row().values()))} if gold else {}
                line |= {"prediction": fields.pop(next(iter(fields), ""), None), **fields}
                file.write(f"{row} {json_text(line)}\n".encode(errors="backslashreplace"))
            return predictions

        yield record


def said(
    codec: Codec,
    engine: Engine,
    outputs: Arrays,
    batch: Batch,
    *,
    generate: Mapping[str, Any] | None = None,
) -> list[Prediction]:
    """What is predicted of a batch, by the model's outputs where these are all that it takes."""
    if not outputs or type(codec).predict is not Codec.predict:
        outputs = codec.predict(engine, batch, codec.settings(generate or {}))
    return codec.decode(outputs, batch)


class Pace:
    """How long texts take that are written, to be told of others beforehand."""

    def __init__(self) -> None:
        self._seconds, self._rows = 0.0, 0

    def timed(self, record: Record) -> Record:
        """The same, with an eye on the clock."""

        def timed(outputs: Arrays, batch: Batch) -> list[Prediction]:
            began = time.monotonic()
            predictions = record(outputs, batch)
            self._seconds += time.monotonic() - began
            self._rows += len(predictions)
            return predictions

        return timed

    def told(self, rows: int, ranks: int) -> str:
        """What is to come, and how long it takes by what has been written so far."""
        seconds = self._seconds * rows / ranks / max(1, self._rows)
        about = f", about {duration(seconds)}" if self._rows else ""
        return f"predicting {rows:,} rows with the best model{about}"


def put_in_order(path: Path, *, ranks: int, rows: int) -> None:
    """Makes the file of the parts, if they have every row; they and older ones are gone then.

    Args:
        path: The file.
        ranks: How many parts there are.
        rows: How many rows they have together.
    """
    ranks_of, starts = np.zeros(rows, np.int32), np.full(rows, -1, np.int64)
    with ExitStack() as opened:
        parts = [opened.enter_context(_part(path, rank).open("rb")) for rank in range(ranks)]
        for rank, part in enumerate(parts):
            start = 0
            for line in part:
                row = int(line.partition(b" ")[0])
                ranks_of[row], starts[row] = rank, start
                start += len(line)
        if starts.min(initial=0) >= 0:
            with replacing(path) as partial, partial.open("wb") as file:
                for row in range(rows):
                    part = parts[ranks_of[row]]
                    part.seek(starts[row])
                    file.write(part.readline().partition(b" ")[2])
    for old in path.parent.glob(f".{path.name}.*.part"):
        old.unlink()


def _part(path: Path, rank: int) -> Path:
    return path.with_name(f".{path.name}.{rank}.part")
