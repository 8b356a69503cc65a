"""How fast texts are written beside transformers' `generate`: a part of benchmarks/writing.py."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.inference import measured
from benchmarks.page import table
from benchmarks.parts import Found, Work, machines
from nlpkit.contracts import Codec, HeadSpec, Vocabulary
from nlpkit.engine.generate import generate, shape_of
from nlpkit.engine.onnx import OnnxSession
from nlpkit.engine.precision import resolve_precision
from nlpkit.engine.settings import Settings
from nlpkit.engine.torch import TorchEngine
from nlpkit_exporters import onnx
from nlpkit_exporters.config import OnnxConfig
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.model import build

PEER = "transformers"
VOCABULARIES, BATCHES = (50_257, 8_000), (1, 16)
PROMPT, NEW, REPEATS = 32, 128, 5
SIZES = {"layers": 6, "hidden": 384, "heads": 6}
TEXT = """
### Speed of writing

Measured with transformers {transformers}, {machine}: tokens per second of a decoder with random
weights, {layers} layers of {hidden} and {heads} heads, fp32; {prompt} tokens of a prompt and
exactly {new} new ones, greedy. transformers' `generate` has a GPT-2 of these sizes, with `sdpa` and
its cache. Medians of {repeats} rounds in which all take turns; ratios are the median of each
round's, in brackets their lowest and highest.

{table}
"""


class OnnxEngine:
    """An engine of one file."""

    def __init__(self, path: Path, graphs: Any) -> None:
        self.graphs, self._session = graphs, OnnxSession(path)

    def run(self, inputs: Any, graph: str = "model") -> dict[str, np.ndarray]:
        """The outputs by name."""
        return dict(zip(self.graphs[graph].outputs, self._session.run(inputs), strict=True))


def measure(work: Work) -> None:
    """Each vocabulary and batch."""
    sizes = {"layers": 2, "hidden": 16, "heads": 2} if work.smoke else SIZES
    for words in (50,) if work.smoke else VOCABULARIES:
        for rows in BATCHES:
            work.kept(
                f"rates-{words:06}-{rows:02}",
                lambda words=words, rows=rows: rates(words, rows, sizes, work.smoke),
            )


def rates(words: int, rows: int, sizes: dict[str, int], smoke: bool) -> Found:
    """Tokens per second of each way, round by round."""
    new, repeats = (8, 2) if smoke else (NEW, REPEATS)
    ids = np.random.default_rng(0).integers(0, words, (rows, PROMPT))
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Callable[[Any], Any]] = {PEER: peer(words, sizes, ids, new)}
        for name, engine in engines(words, sizes, Path(folder)).items():
            ways[name] = own(engine, ids, new)
        lengths = {name: way(None) for name, way in ways.items()}
        if set(lengths.values()) != {new}:
            raise SystemExit(f"not all wrote {new} tokens: {lengths}")
        found = measured(ways, ["prompt"] * rows, repeats)
    speeds = {name: [new * each for each in per_round] for name, per_round in found.items()}
    about = {"transformers": transformers.__version__, "repeats": repeats}
    return {"vocabulary": words, "batch": rows, "speeds": speeds, **about}


def engines(words: int, sizes: dict[str, int], folder: Path) -> dict[str, Any]:
    """nlpkit's decoder on torch, and as an export."""
    torch.manual_seed(0)
    head, vocabulary = HeadSpec(level="next", size=words), Vocabulary(size=words, max_length=256)
    model = build(TransformerConfig(**sizes, dropout=0.0), head, vocabulary, weights=True).eval()
    codec, device = Codec({}, vocabulary), torch.device("cpu")
    codec.head = head
    engine = TorchEngine(model, codec, device=device, precision=resolve_precision("fp32", device))
    spec = engine.graphs["model"]
    some = {"rows": 2, "tokens": 7, "past": 3, "present": 10}
    sample = {
        name: np.ones(shape_of(axes, some, other=1), np.int64 if len(axes) == 2 else np.float32)
        for name, axes in spec.inputs.items()
    }
    described = {"schema": {}, "task": {"name": "clm"}, "nlpkit": ""}
    (folder / "nlpkit.json").write_text(json.dumps(described))
    graph = replace(engine.modules["model"], sample=sample)
    onnx.build(OnnxConfig()).export({"model": graph}, folder)
    return {"torch": engine, "ONNX": OnnxEngine(folder / "model.onnx", engine.graphs)}


def own(engine: Any, ids: np.ndarray, new: int) -> Callable[[Any], int]:
    """Writes as `nlpkit predict` does, without an end; gives how many tokens a text has."""
    prompts, settings = [*ids], Settings(max_tokens=new)
    return lambda _: min(len(each.ids) for each in generate(engine, prompts, settings))


def peer(words: int, sizes: dict[str, int], ids: np.ndarray, new: int) -> Callable[[Any], int]:
    """transformers' `generate`, without an end."""
    config = transformers.GPT2Config(
        vocab_size=words,
        n_positions=256,
        n_embd=sizes["hidden"],
        n_layer=sizes["layers"],
        n_head=sizes["heads"],
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    model: Any = transformers.GPT2LMHeadModel(config).eval()
    given = torch.from_numpy(ids)
    options = {"max_new_tokens": new, "do_sample": False, "use_cache": True}

    def write(_: Any) -> int:
        found = model.generate(given, attention_mask=torch.ones_like(given), **options)
        return int(found.shape[1]) - ids.shape[1]

    return write


def text(work: Work) -> str:
    """A line for each vocabulary and batch."""
    found = work.found("rates-*")
    if not found:
        return ""
    rows = []
    for each in found.values():
        speeds = each["speeds"]
        cells = [f"{each['vocabulary']:,}", str(each["batch"]), f"{median(speeds[PEER]):.0f}"]
        for name in ("torch", "ONNX"):
            ratios = [a / b for a, b in zip(speeds[name], speeds[PEER], strict=True)]
            cells.append(f"{median(speeds[name]):.0f}")
            cells.append(f"{median(ratios):.2f} ({min(ratios):.2f} – {max(ratios):.2f})")
        rows.append(cells)
    some = next(iter(found.values()))
    return TEXT.format(
        transformers=some["transformers"],
        machine=machines(found),
        **SIZES,
        prompt=PROMPT,
        new=NEW,
        repeats=some["repeats"],
        table=table(
            [
                *("vocabulary", "texts at a time", "transformers"),
                *("nlpkit, torch", "× transformers", "nlpkit, ONNX", "× transformers"),
            ],
            rows,
        ),
    )
