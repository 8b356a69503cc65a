"""Checks that a metric keeps its contract."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.errors import PluginError
from nlpkit.testing.expect import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nlpkit.contracts import Batch, Metric


def check_metric(
    fresh: Callable[[], Metric], outputs: Sequence[Any], batches: Sequence[Batch]
) -> None:
    """Feeds batches to one metric, and one by one to metrics of their own, whose states are added.

    Args:
        fresh: Makes a metric that has seen nothing.
        outputs: What the objective gave for each batch, or its predictions, for a metric of these.
        batches: The batches.

    Raises:
        PluginError: The states do not add up, or the values are not those that `better` names.
    """
    whole = fresh()
    name = f"metric {type(whole).__name__}"
    states = [whole.state[:0]] if whole.state.ndim == 2 else [np.zeros_like(whole.state)]
    for output, batch in zip(outputs, batches, strict=True):
        part = fresh()
        part.update(output, batch)
        whole.update(output, batch)
        states.append(part.state)
    vector = whole.state.dtype == np.float64 and whole.state.shape[1:] in ((), (2,))
    expect(name, vector, "the state is no float64 vector")
    summed = np.sum(states, axis=0) if whole.state.ndim == 1 else np.concatenate(states)
    found, wanted = (_by_place(state) for state in (summed, whole.state))
    equal = found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-12, atol=0)
    expect(name, equal, "the states of the batches do not add up to the state of them all")
    values, better = whole.compute(summed), list(whole.better)
    expect(name, list(values) == better, f"gives {list(values)}, but `better` names {better}")
    floats = all(type(value) is float for value in values.values())
    expect(name, floats, f"the values must be Python floats: {values}")
    try:
        json.dumps(whole.details(summed))
    except TypeError as error:
        raise PluginError(f"{name}: the details are no plain JSON: {error}") from error


def _by_place(state: np.ndarray) -> np.ndarray:
    """A state with each place once; a vector is as it is."""
    if state.ndim == 1:
        return state
    places, which = np.unique(state[:, 0], return_inverse=True)
    return np.stack([places, np.bincount(which, state[:, 1], len(places))], axis=1)
