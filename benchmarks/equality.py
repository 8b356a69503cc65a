"""Whether each way writes the same texts: a part of benchmarks/writing.py.

With and without a cache, alone and in batches, torch and ONNX. Where texts differ, it is said how
near to each other the two candidates were that were chosen between first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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

PROMPTS, LONGEST, NEW = 200, 32, 64
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
"""Of a prompt, the open texts after each step."""
TEXT = """
### The same text each way

Measured with {machine}: {prompts} prompts of 8 to {longest} characters from held-out text, {new}
new tokens at most, and the last model above. Each is written alone, in batches of 7 and of 64, with
a cache and without, with torch and with ONNX Runtime, and is compared with what torch writes of it
alone with a cache. A tie is a place where the two candidates of the first difference are within
{near:.0e} of each other, by log-probability, drawn ones with their noise, of beams by their sums;
all are computed anew by torch alone.

{table}
{ties}
"""


class Forgetful:
    """An engine whose graph keeps nothing: all tokens pass it again in each step."""

    def __init__(self, engine: Any) -> None:
        self._engine, spec = engine, engine.graphs["model"]
        self._pasts = {name: axes for name, axes in spec.inputs.items() if name[:5] == "past_"}
        inputs = {name: axes for name, axes in spec.inputs.items() if name not in self._pasts}
        outputs = {"logits": spec.outputs["logits"]}
        self.graphs = {"model": GraphSpec(inputs=inputs, outputs=outputs)}

    def run(self, inputs: Any, graph: str = "model") -> dict[str, np.ndarray]:
        """The logits of the last tokens."""
        rows = {"rows": len(inputs["input_ids"])}
        pasts = {
            name: np.zeros(shape_of(axes, rows, other=0), np.float32)
            for name, axes in self._pasts.items()
        }
        return {"logits": self._engine.run({**inputs, **pasts}, graph)["logits"]}


@contextmanager
def traced() -> Iterator[dict[Ids, Trace]]:
    """Keeps of each prompt, by its ids, what was open after each step."""
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


def measure(work: Work, run_of: Callable[[Work], nlpkit.Run]) -> None:
    """All ways of each method."""
    for name in METHODS:
        work.kept(f"equality-{name.replace(': ', '-')}", lambda name=name: ways(work, name, run_of))


def ways(work: Work, method: str, run_of: Callable[[Work], nlpkit.Run]) -> Found:
    """What differs from torch alone with a cache, by way."""
    run = run_of(work)
    onnx = work.path / "onnx" / run.path.name
    if not onnx.exists():
        nlpkit.export(run, "onnx", out=onnx)
    texts = prompts((work.path / "held-out.txt").read_text("ascii"), 5 if work.smoke else PROMPTS)
    reference, first, network = None, {}, None
    found: dict[str, list[Found]] = {}
    for engine, model in {
        "torch": nlpkit.load(run, device="cpu"),
        "ONNX": nlpkit.load(onnx),
    }.items():
        caching, settings = model.engine, settings_of(model, method)
        for cache in ("cache", "no cache"):
            model.engine = caching if cache == "cache" else Forgetful(caching)
            for batch in BATCHES:
                with traced() as traces:
                    said = model.predict(texts, batch_size=batch, generate=settings)
                written = [each.continuation for each in said]
                if reference is None:
                    reference, first, network = written, traces, caching.model
                    continue
                found[f"{engine}, {cache}, {batch}"] = [
                    {
                        "prompt": number,
                        "gap": gap(first[ids], traces[ids], worth(network, ids, settings)),
                    }
                    for number, ids in enumerate(ids_of(model, texts))
                    if reference[number] != written[number]
                ]
    return {"method": method, "prompts": len(texts), "ways": found}


def prompts(text: str, count: int) -> list[str]:
    """From evenly spaced places, of 8 to `LONGEST` characters."""
    lengths = np.random.default_rng(0).integers(8, LONGEST + 1, count)
    starts = np.arange(count) * (len(text) // count)
    return [text[at : at + size] for at, size in zip(starts, lengths, strict=True)]


def settings_of(model: Any, method: str) -> dict[str, Any]:
    """How it is written, as long as there is room behind the longest prompt."""
    room = model.bundle.vocabulary.max_length - LONGEST - 1
    return {**METHODS[method], "max_tokens": min(NEW, room)}


def ids_of(model: Any, texts: list[str]) -> list[Ids]:
    """What stands for each prompt among the traces."""
    rows = model.batch(texts).inputs
    pairs = zip(rows["input_ids"], rows["attention_mask"], strict=True)
    return [tuple(ids[mask == 1].tolist()) for ids, mask in pairs]


def worth(network: Any, prompt: Ids, settings: dict[str, Any]) -> Callable[[Ids], float]:
    """By what new ids are chosen: the sum of their log-probabilities, all computed at once and
    alone, and where they are drawn the noise of the last."""
    drawn = noise(prompt) if settings["method"] == "sample" else lambda ids: 0.0

    def summed(ids: Ids) -> float:
        row = torch.tensor([[*prompt, *ids]])[:, :-1]
        with torch.inference_mode():
            logits = network(row, torch.ones_like(row)).logits()[0, len(prompt) - 1 :]
        logs = logits.double().log_softmax(-1)
        return float(logs[range(len(ids)), ids].sum()) + drawn(ids)

    return summed


def noise(prompt: Ids) -> Callable[[Ids], float]:
    """What is added to the log-probability of the last of some new ids where they are drawn."""
    seed = mix(Settings.seed, *prompt, 0)

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
        [way, *(str(each["prompts"] - len(each["ways"][way])) for each in found.values())]
        for way in some["ways"]
    ]
    differing = [
        (each["method"], way, one["prompt"], one["gap"])
        for each in found.values()
        for way, ones in each["ways"].items()
        for one in ones
    ]
    lines = [
        f"- {method}, {way}, prompt {prompt}: {told(gap)}" for method, way, prompt, gap in differing
    ]
    ties = "\n".join(lines) or "No text differs."
    return TEXT.format(
        machine=machines(found),
        prompts=some["prompts"],
        longest=LONGEST,
        new=NEW,
        near=NEAR,
        table=table(["equal texts", *(each["method"] for each in found.values())], rows),
        ties=ties,
    )


def told(gap: float | None) -> str:
    """What a difference is."""
    if gap is None:
        return "they end at other places"
    return f"{'a tie, ' if gap <= NEAR else '**no tie**, '}{gap:.1e} apart"
