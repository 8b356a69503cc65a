"""What the gate of exports asks: the same of a model and, in a fresh process, of its export.

`python -m nlpkit.bundle.gate EXPORT FOLDER` is the fresh process. It knows nothing but the export:
its tokenizer, its task, its model, as its exporter opens it. Each graph is asked arrays of many
sizes; then texts go all the way from the tokenizer on. `parity` compares the answers.
"""

from __future__ import annotations

import hashlib
import json
import sys
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nlpkit.bundle.grid import SOME, Filling, grid
from nlpkit.bundle.load import load
from nlpkit.contracts import Row
from nlpkit.data.plan import cut
from nlpkit.engine.generate import sizes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nlpkit.bundle.predict import Model
    from nlpkit.contracts import Arrays, GraphSpec

_TOGETHER = 64
_QUESTIONS, _ANSWERS = "questions.json", "answers.json"


class Case(NamedTuple):
    """What goes through the model together: arrays, or texts.

    Attributes:
        graph: Which one is given arrays; "" for texts.
        sizes: Of the arrays' axes, by name.
        rows: The texts' places among all.
        alone: Whether it is a text that is asked among others too; several rows are copies of it.
    """

    graph: str
    sizes: Mapping[str, int]
    rows: Sequence[int] = ()
    alone: bool = False


class Answer(NamedTuple):
    """What a model says to a case.

    Attributes:
        sizes: Of the axes of what it was given, by name.
        error: Why nothing came out, or "".
        inputs: A hash of the arrays that the tokenizer and the task made of texts.
        labels: What it predicts of each text, without numbers.
        outputs: What came out, by name.
    """

    sizes: Mapping[str, int]
    error: str
    inputs: str
    labels: Sequence[Any]
    outputs: Arrays


def questions(
    model: Model,
    texts: Sequence[Row],
    sizes: Sequence[Mapping[str, int]],
    folder: Path,
    *,
    alone: int,
) -> list[Case]:
    """A grid of arrays for each graph (law 6), and texts, alone and beside others like them.

    Args:
        model: Has the graphs.
        texts: Real rows, at least one.
        sizes: Of each alone: the rows that it becomes, and their tokens.
        folder: Where it is written for both processes.
        alone: How many of them, at most, are asked one by one as well; 0: one of each length, and
            copies of it together.
    """
    filling, cases = Filling(model, texts), list[Case]()
    for name, spec in model.engine.graphs.items():
        for shape in grid(spec, model.bundle.vocabulary.max_length):
            np.savez(folder / f"{len(cases)}.npz", **filling.arrays(spec, shape))  # type: ignore[arg-type]
            cases.append(Case(name, shape))
    rows = [{column: row.values[column] for column in model.columns} for row in texts]
    ordered = sorted(range(len(rows)), key=lambda place: len(str(rows[place])))
    counts = np.array([each["rows"] for each in sizes])
    cases += [Case("", {}, piece.tolist()) for piece in cut(np.array(ordered), _TOGETHER, counts)]
    lengths = {sizes[at].get("tokens"): at for at in ordered}
    chosen = ordered[:: -(-len(rows) // alone)] if alone else lengths.values()
    copies = (1,) if alone else SOME
    cases += [Case("", {}, [place] * many, alone=True) for many in copies for place in chosen]
    (folder / _QUESTIONS).write_text(json.dumps({"rows": rows, "cases": cases}))
    return cases


def answers(model: Model, folder: Path) -> Iterator[Answer]:
    """What a model says to the questions in a folder; a failure is an answer too."""
    asked = json.loads((folder / _QUESTIONS).read_bytes())
    for place, case in enumerate(starmap(Case, asked["cases"])):
        sizes, error, inputs = case.sizes, "", ""
        labels: list[Any] = []
        outputs: Arrays = {}
        given: Arrays = {}
        try:
            if case.graph:
                given = _read(folder / f"{place}.npz")
                outputs = model.engine.run(given, case.graph)
            else:
                batch = model.batch([Row(asked["rows"][at], f"text {at}") for at in case.rows])
                sizes = sizes_of(model.codec.inputs, batch.inputs)
                inputs = _hash(batch.inputs)
                given = batch.inputs
                outputs = model.codec.predict(model.engine, batch, model.codec.settings({}))
                said = [each.row() for each in model.codec.decode(outputs, batch)]
                labels = list(map(_label, json.loads(json.dumps(said))))
        except Exception as caught:
            error = " ".join(f"{type(caught).__name__}: {caught}".split())
        spec = model.engine.graphs.get(case.graph or "model")
        outputs = _without_padding(outputs, given, spec) if outputs and spec else outputs
        yield Answer(sizes, error, inputs, labels, outputs)


def read_answers(folder: Path) -> Iterator[Answer]:
    """What the other process wrote, case by case."""
    for place, said in enumerate(json.loads((folder / _ANSWERS).read_bytes())):
        yield Answer._make([*said, _read(folder / f"{place}.answer.npz")])


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _without_padding(outputs: Arrays, inputs: Arrays, spec: GraphSpec) -> Arrays:
    """Outputs of tokens, of which those of padding are 0: nobody reads them."""
    mask = inputs.get("attention_mask")
    axes = tuple(spec.inputs.get("attention_mask", ()))
    return {
        name: np.where((mask != 0)[..., None], each, 0)
        if mask is not None and each.ndim == 3 and tuple(spec.outputs.get(name, ()))[:2] == axes
        else each
        for name, each in outputs.items()
    }


def _label(said: Any) -> Any:
    """What a prediction says without its numbers, at any depth."""
    if isinstance(said, dict):
        return {name: _label(each) for name, each in said.items() if not isinstance(each, float)}
    if isinstance(said, list):
        return [_label(each) for each in said if not isinstance(each, float)]
    return said


def _hash(inputs: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(inputs.items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> None:
    """Answers the questions in a folder with an export, whose plugins its caller trusts."""
    export, folder = map(Path, arguments)
    said = []
    for place, answer in enumerate(answers(load(export, trust_plugins=True), folder)):
        np.savez(folder / f"{place}.answer.npz", **answer.outputs)  # type: ignore[arg-type]
        said.append(answer[:-1])
    (folder / _ANSWERS).write_text(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
