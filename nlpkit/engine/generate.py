"""Runs a graph token after token: what it gave as `present_*` it is given back as `past_*`.

Numpy only, and the same on torch and on ONNX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nlpkit.contracts import Arrays, Axes, Engine

_PAST, _PRESENT = "past_", "present_"


class Steps:
    """Rows that grow together, none of whose tokens passes a graph twice.

    Args:
        engine: Runs the graph.
        graph: Its name.
    """

    def __init__(self, engine: Engine, graph: str = "model") -> None:
        self._engine, self._graph = engine, graph
        self._pasts: dict[str, np.ndarray] = {}

    def start(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The first step of new rows: their pasts have the length 0."""
        spec = self._engine.graphs[self._graph].inputs
        rows = next(len(inputs[name]) for name in spec if name in inputs)
        self._pasts = {
            name: np.zeros(shape_of(axes, {"rows": rows}, other=0), np.float32)
            for name, axes in spec.items()
            if name.startswith(_PAST)
        }
        return self.step(inputs)

    def step(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs for tokens that follow those before, without what becomes their past.

        Args:
            inputs: What the graph takes beside pasts, by name: the new tokens of each row, and a
                mask of all of them.
        """
        found = self._engine.run({**inputs, **self._pasts}, self._graph)
        presents = [name for name in found if name.startswith(_PRESENT)]
        self._pasts = {_PAST + name.removeprefix(_PRESENT): found.pop(name) for name in presents}
        return found

    def reorder(self, places: Sequence[int] | np.ndarray) -> None:
        """Goes on with the rows at these places, in this order; what is not named has left."""
        self._pasts = {name: past[np.asarray(places)] for name, past in self._pasts.items()}


def shape_of(axes: Axes, sizes: Mapping[str, int], *, other: int) -> list[int]:
    """The shape of an array of these axes, where named ones have these sizes, and `other` else."""
    return [axis if isinstance(axis, int) else sizes.get(axis, other) for axis in axes]
