"""Generates text: greedy, sampled, or by beam search. Numpy only, the same on torch and on ONNX.

A graph is run token after token: what it gave as `present_*` it is given back as `past_*`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nlpkit.engine.choose import log_sums
from nlpkit.engine.search import Beam, Line, Rules, Written
from nlpkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from nlpkit.contracts import Arrays, Axes, Engine
    from nlpkit.engine.settings import Settings

_PAST, _PRESENT = "past_", "present_"
_IDS, _MASK, _LOGITS = "input_ids", "attention_mask", "logits"


class Steps:
    """Rows that grow together, none of whose tokens passes a graph twice.

    A graph without pasts keeps nothing, and is given all tokens again in each step. An engine that
    has a method `step` keeps pasts where it computes: it is like `run`, but for `present_*`, which
    it gives in a form of its own, takes back, and lets be indexed by rows. One that has `log_sums`
    takes the place of that function.

    Args:
        engine: Runs the graph.
        graph: Its name.
    """

    def __init__(self, engine: Engine, graph: str = "model") -> None:
        self._spec, self._graph = engine.graphs[graph], graph
        self._run = getattr(engine, "step", engine.run)
        self.log_sums: Callable[[np.ndarray], list[float]] = getattr(engine, "log_sums", log_sums)
        self._pasts: dict[str, Any] = {}
        self._sources: dict[str, Any] = {}
        self._owners = np.zeros(0, np.int64)
        self._seen: np.ndarray | None = None

    def read(self, source: Arrays) -> None:
        """Keeps what the graph "encoder" makes of the source of each row: it runs once."""
        self._sources = _kept(self._run(source, "encoder"))

    def start(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The first step of new rows: their pasts have the length 0."""
        spec = self._spec.inputs
        rows = next(len(inputs[name]) for name in spec if name in inputs)
        self._pasts = {
            name: np.zeros(shape_of(axes, {"rows": rows}, other=0), np.float32)
            for name, axes in spec.items()
            if "past" in axes
        }
        self._owners, self._seen = np.arange(rows), None
        return self.step(inputs)

    def step(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs for tokens that follow those before, without what becomes their past.

        Args:
            inputs: What the graph takes beside pasts, by name: the new tokens of each row, and a
                mask of all of them.
        """
        if not self._pasts and _IDS in inputs:
            seen = [] if self._seen is None else [self._seen]
            self._seen = np.concatenate([*seen, inputs[_IDS]], axis=1)
            inputs = {**inputs, _IDS: self._seen}
        found = self._run({**inputs, **self._sources, **self._pasts}, self._graph)
        self._pasts = _kept(found)
        return {name: each for name, each in found.items() if not name.startswith(_PRESENT)}

    def reorder(self, places: Sequence[int] | np.ndarray) -> None:
        """Goes on with the rows at these places, in this order; what is not named has left."""
        rows = np.asarray(places)
        owners, self._owners = self._owners, self._owners[rows]
        if not np.array_equal(owners, self._owners):  # texts of one source may change places
            self._sources = {name: each[rows] for name, each in self._sources.items()}
        self._pasts = {name: past[rows] for name, past in self._pasts.items()}
        self._seen = None if self._seen is None else self._seen[rows]


def _kept(found: Mapping[str, Any]) -> dict[str, Any]:
    """What becomes of `present_*`: `past_*`."""
    return {
        _PAST + name.removeprefix(_PRESENT): each
        for name, each in found.items()
        if name.startswith(_PRESENT)
    }


class Progress(NamedTuple):
    """How far a prompt has come.

    Attributes:
        row: Its place among the prompts.
        said: Gives what is sure of its text, without what may become a stop word; of a beam search
            nothing is sure before its end.
        written: What it came to; None where it goes on.
    """

    row: int
    said: Callable[[], str]
    written: Written | None


def generate(
    engine: Engine, prompts: Sequence[np.ndarray], settings: Settings, **options: Any
) -> list[Written]:
    """What follows each prompt; as `generating`, which takes the same."""
    steps = generating(engine, prompts, settings, **options)
    found = {each.row: each.written for each in steps if each.written}
    return [found[row] for row in range(len(prompts))]


def generating(
    engine: Engine,
    prompts: Sequence[np.ndarray],
    settings: Settings,
    *,
    source: Arrays | None = None,
    end: Collection[int] = (),
    vocabulary: int | None = None,
    text: Callable[[list[int]], str] | None = None,
    graph: str = "model",
    stopped: Callable[[int], bool] | None = None,
) -> Iterator[Progress]:
    """Goes on with prompts, together; after each step it says of each that was open where it is.

    A row that has ended leaves the batch. The ids of a prompt do not depend on the others.

    Args:
        engine: Runs the graph.
        prompts: Ids, at least one each, 1-D.
        settings: How texts are generated.
        source: What the graph "encoder" takes, a row a prompt, of a model that has one: ids and
            mask. What is drawn depends on them too.
        end: The ids that end a text.
        vocabulary: Ids from here on are never chosen; None: all of the graph's are.
        text: What ids say; without it there are neither texts nor stop words. What is written is
            read behind the prompt's last token, and keeps a blank that it begins with.
        graph: Takes `input_ids` [rows, tokens] and `attention_mask` [rows, present], where rows end
            at the right and are masked at the left, and gives `logits` [rows, tokens, vocabulary],
            of the last token at least.
        stopped: Whether the prompt at this place is to end now, asked after each of its tokens.

    Raises:
        InputError: A prompt is empty, or there are stop words and no `text`.
        NonFiniteError: The model gave logits that are no numbers.
    """
    rules = Rules(settings, end, vocabulary, text)
    kind = Beam if settings.searching else Line
    steps, inputs, given = Steps(engine, graph), _padded(prompts), prompts
    if source is not None:
        steps.read(source)
        texts = zip(source[_IDS], source[_MASK], prompts, strict=True)
        given = [np.concatenate([ids[mask == 1], prompt]) for ids, mask, prompt in texts]
    going = [(row, kind(each, rules), 1) for row, each in enumerate(given)]
    mask, found = inputs[_MASK], steps.start(inputs)
    while True:
        logits = found[_LOGITS][:, -1]
        sums = steps.log_sums(logits)
        searches, at = going, 0
        going, places, tokens = [], list[int](), list[int]()
        for row, search, rows in searches:
            followed = search.take(logits[at : at + rows], sums[at : at + rows])
            if followed and not (stopped and stopped(row)):
                going.append((row, search, len(followed)))
                places += [at + place for place, _ in followed]
                tokens += [token for _, token in followed]
                yield Progress(row, search.said, None)
            else:
                written = search.close()
                yield Progress(row, partial(str, written.text), written)
            at += rows
        if not going:
            return
        if places != list(range(at)):
            steps.reorder(places)
        mask = np.concatenate((mask[places], np.ones((len(places), 1), np.int64)), axis=1)
        found = steps.step({_IDS: np.array(tokens)[:, None], _MASK: mask})


def _padded(prompts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Prompts as inputs, whose last column is the last token of each."""
    shape = len(prompts), max(map(len, prompts))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise InputError(f"prompt {row} has no token to go on from; put one in front of it")
        ids[row, -len(prompt) :] = prompt
        mask[row, -len(prompt) :] = 1
    return {_IDS: ids, _MASK: mask}


def shape_of(axes: Axes, sizes: Mapping[str, int], *, other: int) -> list[int]:
    """The shape of an array of these axes, where named ones have these sizes, and `other` else."""
    return [axis if isinstance(axis, int) else sizes.get(axis, other) for axis in axes]


def sizes_of(axes: Mapping[str, Axes], arrays: Arrays) -> dict[str, int]:
    """The sizes of the axes that have a name, as arrays have them."""
    return {
        axis: size
        for name, array in arrays.items()
        for axis, size in zip(axes.get(name, ()), array.shape, strict=False)
        if isinstance(axis, str)
    }
