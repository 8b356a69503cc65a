"""Whether each way writes the same texts: a part of two benchmarks.

With and without a cache, alone and in batches, torch and ONNX. Where texts differ, it is said how
near to each other the two candidates were that were chosen between first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

import nlpkit
from benchmarks.page import table
from benchmarks.parts import Found, Work, machines
from nlpkit.contracts import GraphSpec
from nlpkit.data.plan import hashes, mix
from nlpkit.engine import generate as writing
from nlpkit.engine.generate import shape_of
from nlpkit.engine.search import Beam, Line
from nlpkit.engine.settings import Settings

TEXTS, LONGEST = 200, 32
BATCHES = (1, 7, 64)
NEAR = 1e-4
METHODS: dict[str, dict[str, Any]] = {
    "greedy": {"method": "greedy"},
    "sampled": {"method": "sample"},
    "beams: 1": {"method": "beam", "beams": 1},
    "beams: 4": {"method": "beam", "beams": 4},
}
Ids = tuple[int, ...]
Trace = list[set[Ids]]
"""Of a prompt or source, the open texts after each step."""
TEXT = """
### The same text each way

Measured with {machine}: {texts} held-out {kind}, {new} new tokens at most, and the last model
above. Each is written alone, in batches of 7 and of 64, with a cache and without, with torch and
with ONNX Runtime, and is compared with what torch writes of it alone with a cache. A tie is a place
where the two candidates of the first difference are within {near:.0e} of each other, by
log-probability, drawn ones with their noise, of beams by their sums; all are computed anew by torch
alone.

{table}
{ties}
"""


class Forgetful:
    """An engine whose graph keeps nothing: all tokens pass it again in each step."""

    def __init__(self, engine: Any) -> None:
        self._engine, spec = engine, engine.graphs["model"]
        self._pasts = {
            name: axes
            for name, axes in spec.inputs.items()
            if name.startswith("past_") and not name.startswith("past_source_")
        }
        inputs = {name: axes for name, axes in spec.inputs.items() if name not in self._pasts}
        outputs = {"logits": spec.outputs["logits"]}
        self.graphs = {**engine.graphs, "model": GraphSpec(inputs=inputs, outputs=outputs)}

    def run(self, inputs: Any, graph: str = "model") -> dict[str, np.ndarray]:
        """The logits of the last tokens; what is made of sources as it is."""
        if graph != "model":
            return dict(self._engine.run(inputs, graph))
        rows = {"rows": len(inputs["input_ids"])}
        pasts = {
            name: np.zeros(shape_of(axes, rows, other=0), np.float32)
            for name, axes in self._pasts.items()
        }
        return {"logits": self._engine.run({**inputs, **pasts}, graph)["logits"]}


@contextmanager
def traced() -> Iterator[dict[Ids, Trace]]:
    """Keeps of each text, by the ids that it follows from, what was open after each step."""
    traces: dict[Ids, Trace] = {}

    def tracing(kind: Any) -> Any:
        class Traced(kind):
            def __init__(self, prompt: Any, rules: Any) -> None:
                super().__init__(prompt, rules)
                self._trace = traces.setdefault(tuple(prompt.tolist()), [])
                self._trace.clear()

            def take(self, logits: np.ndarray) -> Any:
                followed = super().take(logits)
                grown = self._open if kind is Beam else [self._grown]
                self._trace.append({tuple(each.ids) for each in grown})
                return followed

        return Traced

    writing.Line, writing.Beam = tracing(Line), tracing(Beam)  # type: ignore[misc]
    try:
        yield traces
    finally:
        writing.Line, writing.Beam = Line, Beam  # type: ignore[misc]


def measure(work: Work, given: Callable[[], tuple[nlpkit.Run, Sequence[str], int]]) -> None:
    """All ways of each method.

    Args:
        work: Where it is kept.
        given: Gives a run, texts that it has not seen, and how many tokens are written at most.
    """
    for name in METHODS:
        work.kept(
            f"equality-{name.replace(': ', '-')}", lambda name=name: ways(work, name, *given())
        )


def ways(work: Work, method: str, run: nlpkit.Run, texts: Sequence[str], new: int) -> Found:
    """What differs from torch alone with a cache, by way."""
    onnx = work.path / "onnx" / run.path.name
    if not onnx.exists():
        nlpkit.export(run, "onnx", out=onnx)
    texts = [*texts[:5]] if work.smoke else [*texts]
    settings = {**METHODS[method], "max_tokens": new}
    reference, first, network = None, {}, None
    found: dict[str, list[Found]] = {}
    for engine, model in {
        "torch": nlpkit.load(run, device="cpu"),
        "ONNX": nlpkit.load(onnx),
    }.items():
        caching = model.engine
        for cache in ("cache", "no cache"):
            model.engine = caching if cache == "cache" else Forgetful(caching)
            for batch in BATCHES:
                with traced() as traces:
                    said = model.predict(texts, batch_size=batch, generate=settings)
                written = [getattr(each, model.codec.field) for each in said]
                if reference is None:
                    reference, first, network = written, traces, caching.model
                    continue
                found[f"{engine}, {cache}, {batch}"] = [
                    {
                        "text": number,
                        "gap": gap(
                            first[source + prompt],
                            traces[source + prompt],
                            worth(network, source, prompt, settings),
                        ),
                    }
                    for number, (source, prompt) in enumerate(ids_of(model, texts))
                    if reference[number] != written[number]
                ]
    kind = "sources" if "encoder" in caching.graphs else "prompts"
    return {"method": method, "kind": kind, "texts": len(texts), "new": new, "ways": found}


def prompts(text: str, count: int) -> list[str]:
    """From evenly spaced places, of 8 to `LONGEST` characters."""
    lengths = np.random.default_rng(0).integers(8, LONGEST + 1, count)
    starts = np.arange(count) * (len(text) // count)
    return [text[at : at + size] for at, size in zip(starts, lengths, strict=True)]


def ids_of(model: Any, texts: list[str]) -> list[tuple[Ids, Ids]]:
    """What each text follows from: its source, () where there is none, and its prompt."""
    prompts, source = model.codec.begun(model.batch(texts))
    begun = [tuple(each.tolist()) for each in prompts]
    if source is None:
        return [((), each) for each in begun]
    rows = zip(source["input_ids"], source["attention_mask"], strict=True)
    return [
        (tuple(ids[mask == 1].tolist()), prompt)
        for (ids, mask), prompt in zip(rows, begun, strict=True)
    ]


def worth(
    network: Any, source: Ids, prompt: Ids, settings: dict[str, Any]
) -> Callable[[Ids], float]:
    """By what new ids are chosen: the sum of their log-probabilities, all computed at once and
    alone, and where they are drawn the noise of the last."""
    drawn = noise(source + prompt) if settings["method"] == "sample" else lambda ids: 0.0

    def summed(ids: Ids) -> float:
        row, read = torch.tensor([[*prompt, *ids]])[:, :-1], torch.tensor([source])
        given = (read, torch.ones_like(read), row) if source else (row, torch.ones_like(row))
        with torch.inference_mode():
            logits = network(*given).logits()[0, len(prompt) - 1 :]
        logs = logits.double().log_softmax(-1)
        return float(logs[range(len(ids)), ids].sum()) + drawn(ids)

    return summed


def noise(given: Ids) -> Callable[[Ids], float]:
    """What is added to the log-probability of the last of some new ids where they are drawn."""
    seed = mix(Settings.seed, *given, 0)

    def added(ids: Ids) -> float:
        (value,) = hashes(np.array(ids[-1:]), seed, len(ids) - 1)
        return -math.log(-math.log1p(-((int(value) >> 12) + 0.5) * 2.0**-52))

    return added


def gap(one: Trace, other: Trace, worth: Callable[[Ids], float]) -> float | None:
    """How near the candidates of the first difference are; None: only where texts ended differs.

    Both are judged alike, whatever the two ways said of them.
    """
    for some, others in zip(one, other, strict=False):
        if (mine := some - others) and (theirs := others - some):
            return min(abs(worth(a) - worth(b)) for a in mine for b in theirs)
    return None


def text(work: Work) -> str:
    """How many texts differ each way, and the list of them."""
    found = work.found("equality-*")
    if not found:
        return ""
    some = next(iter(found.values()))
    rows = [
        [way, *(str(each["texts"] - len(each["ways"][way])) for each in found.values())]
        for way in some["ways"]
    ]
    differing = [
        (each["method"], way, one["text"], one["gap"])
        for each in found.values()
        for way, ones in each["ways"].items()
        for one in ones
    ]
    lines = [
        f"- {method}, {way}, text {number}: {told(gap)}" for method, way, number, gap in differing
    ]
    ties = "\n".join(lines) or "No text differs."
    return TEXT.format(
        machine=machines(found),
        texts=some["texts"],
        kind=some["kind"],
        new=some["new"],
        near=NEAR,
        table=table(["equal texts", *(each["method"] for each in found.values())], rows),
        ties=ties,
    )


def told(gap: float | None) -> str:
    """What a difference is."""
    if gap is None:
        return "they end at other places"
    return f"{'a tie, ' if gap <= NEAR else '**no tie**, '}{gap:.1e} apart"
