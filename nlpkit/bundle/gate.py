"""What the gate of exports asks: the same of a model and, in a fresh process, of its export.

`python -m nlpkit.bundle.gate EXPORT FOLDER` is the fresh process. It knows nothing but the export:
its tokenizer, its task, its model, as its exporter opens it. Each graph is asked arrays of many
sizes; then texts go all the way from the tokenizer on. `parity` compares the answers.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.bundle.grid import SOME, Filling, grid
from nlpkit.bundle.load import load
from nlpkit.contracts import Row
from nlpkit.data.plan import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Arrays, Batch

_TOGETHER = 64


@dataclass(frozen=True, kw_only=True)
class Case:
    """What goes through the model together: arrays, or texts.

    Attributes:
        graph: Which one is given arrays; "" for texts.
        sizes: Of the arrays' axes, by name.
        rows: The texts' places among the questions' rows.
        alone: Whether it is a text that is asked among others too; several rows are copies of it.
    """

    graph: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[int] = ()
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Questions:
    """All that is asked, in a folder, where arrays and answers of all cases have room.

    Attributes:
        folder: The folder.
        rows: Texts by column.
        cases: What goes together.
    """

    folder: Path
    rows: Sequence[Mapping[str, Any]]
    cases: Sequence[Case]

    @classmethod
    def open(cls, folder: Path) -> Questions:
        """Reads what `questions` wrote."""
        found = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
        cases = [Case(**case) for case in found["cases"]]
        return cls(folder=folder, rows=found["rows"], cases=cases)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says to a case.

    Attributes:
        inputs: A hash of the arrays that the tokenizer and the task made of texts.
        outputs: What came out, by name.
        error: Why nothing did, or "".
        batch: What was made of texts; None where the answer comes from another process.
    """

    inputs: str = ""
    outputs: Arrays = field(default_factory=dict)
    error: str = ""
    batch: Batch | None = None


def questions(
    model: Model,
    texts: Sequence[Row],
    sizes: Sequence[Mapping[str, int]],
    folder: Path,
    *,
    alone: int,
) -> Questions:
    """A grid of arrays for each graph (law 6), and texts, alone and beside others like them.

    Args:
        model: Has the graphs.
        texts: Real rows, at least one.
        sizes: Of each alone: the rows that it becomes, and their tokens.
        folder: Where it is written for both processes.
        alone: How many of them, at most, are asked one by one as well; 0: one of each length, and
            copies of it together.
    """
    rows = [{column: row.values[column] for column in model.columns} for row in texts]
    filling, cases = Filling(model, texts), list[Case]()
    for name, spec in model.engine.graphs.items():
        for shape in grid(spec, model.bundle.vocabulary.max_length):
            np.savez(folder / f"{len(cases)}.npz", **filling.arrays(spec, shape))  # type: ignore[arg-type]
            cases.append(Case(graph=name, sizes=shape))
    count = len(rows)
    ordered = sorted(range(count), key=lambda place: len(str(rows[place])))
    counts = np.array([each["rows"] for each in sizes])
    cases += [Case(rows=piece.tolist()) for piece in cut(np.array(ordered), _TOGETHER, counts)]
    lengths = {sizes[at].get("tokens"): at for at in ordered}
    chosen = ordered[:: -(-count // alone)] if alone else lengths.values()
    copies = (1,) if alone else SOME
    cases += [Case(rows=[place] * many, alone=True) for many in copies for place in chosen]
    text = json.dumps({"rows": rows, "cases": list(map(asdict, cases))}, ensure_ascii=False)
    (folder / "questions.json").write_text(text, encoding="utf-8")
    return Questions(folder=folder, rows=rows, cases=cases)


def answers(model: Model, asked: Questions) -> Iterator[Answer]:
    """What a model says, case by case; a failure is an answer too."""
    for place, case in enumerate(asked.cases):
        batch, inputs = None, ""
        if not case.graph:
            batch = model.batch([Row(asked.rows[at], f"text {at}") for at in case.rows])
            inputs = _hash(batch.inputs)
        try:
            if batch:
                outputs = model.codec.predict(model.engine, batch, {})
            else:
                outputs = model.engine.run(_read(asked.folder / f"{place}.npz"), case.graph)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            yield Answer(inputs=inputs, error=reason, batch=batch)
        else:
            yield Answer(inputs=inputs, outputs=outputs, batch=batch)


def read_answers(asked: Questions) -> Iterator[Answer]:
    """What the other process wrote, case by case."""
    lines = json.loads((asked.folder / "answers.json").read_text(encoding="utf-8"))
    for place, line in enumerate(lines):
        yield Answer(**line, outputs=_read(asked.folder / f"{place}.answer.npz"))


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _hash(inputs: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(inputs.items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> None:
    """Answers the questions in a folder with an export, whose plugins its caller trusts."""
    export, folder = map(Path, arguments)
    asked, lines = Questions.open(folder), []
    for place, answer in enumerate(answers(load(export, trust_plugins=True), asked)):
        np.savez(folder / f"{place}.answer.npz", **answer.outputs)  # type: ignore[arg-type]
        lines.append({"inputs": answer.inputs, "error": answer.error})
    (folder / "answers.json").write_text(json.dumps(lines), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
