"""How fast texts are written beside transformers' `generate`: a part of two benchmarks."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

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
BATCHES, PROMPT, NEW, REPEATS = (1, 16), 32, 128, 5


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What writes, and its peer.

    Attributes:
        level: Of the head.
        vocabularies: Sizes that are tried.
        sizes: Of the model: of a translator those of each half.
        positions: As its peer's.
        about: What it is, what it begins with, and what its peer is.
    """

    level: Literal["next", "target"]
    vocabularies: tuple[int, ...]
    sizes: dict[str, int]
    positions: Literal["learned", "sinusoidal"]
    about: tuple[str, str, str]


WRITER = Kind(
    level="next",
    vocabularies=(50_257, 8_000),
    sizes={"layers": 6, "hidden": 384, "heads": 6},
    positions="learned",
    about=("a decoder", "of a prompt", "a GPT-2"),
)
TRANSLATOR = Kind(
    level="target",
    vocabularies=(32_000, 8_000),
    sizes={"layers": 6, "hidden": 512, "heads": 8},
    positions="sinusoidal",
    about=("an encoder and a decoder", "of a source", "a Marian"),
)
TEXT = """
### Speed of writing

Measured with transformers {transformers}, {machine}: tokens per second of {what} with random
weights, {layers} layers of {hidden} and {heads} heads, {positions} positions, fp32; {prompt} tokens
{given} and exactly {new} new ones, greedy. transformers' `generate` has {peer} of these sizes, with
`sdpa` and its cache. Medians of {repeats} rounds in which all take turns; ratios are the median of
each round's, in brackets their lowest and highest.

{table}
"""


class OnnxEngine:
    """An engine of files."""

    def __init__(self, folder: Path, graphs: Any) -> None:
        self.graphs = graphs
        self._sessions = {name: OnnxSession(folder / f"{name}.onnx") for name in graphs}

    def run(self, inputs: Any, graph: str = "model") -> dict[str, np.ndarray]:
        """The outputs by name."""
        found = self._sessions[graph].run(inputs)
        return dict(zip(self.graphs[graph].outputs, found, strict=True))


def measure(work: Work, kind: Kind) -> None:
    """Each vocabulary and batch."""
    if work.smoke:
        small = {"layers": 2, "hidden": 16, "heads": 2}
        kind = replace(kind, vocabularies=(50,), sizes=small)
    for words in kind.vocabularies:
        for rows in BATCHES:
            work.kept(
                f"rates-{words:06}-{rows:02}",
                lambda words=words, rows=rows: rates(kind, words, rows, work.smoke),
            )


def rates(kind: Kind, words: int, rows: int, smoke: bool) -> Found:
    """Tokens per second of each way, round by round."""
    new, repeats = (8, 2) if smoke else (NEW, REPEATS)
    ids = np.random.default_rng(0).integers(1, words, (rows, PROMPT))
    peer = gpt2 if kind.level == "next" else marian
    with tempfile.TemporaryDirectory() as folder:
        other = written_by(peer(words, kind.sizes), ids, new)
        ways: dict[str, Callable[[Any], Any]] = {PEER: other}
        for name, engine in engines(kind, words, Path(folder)).items():
            ways[name] = own(engine, ids, new)
        lengths = {name: way(None) for name, way in ways.items()}
        if set(lengths.values()) != {new}:
            raise SystemExit(f"not all wrote {new} tokens: {lengths}")
        found = measured(ways, ["prompt"] * rows, repeats)
    speeds = {name: [new * each for each in per_round] for name, per_round in found.items()}
    about = {"transformers": transformers.__version__, "repeats": repeats}
    return {"vocabulary": words, "batch": rows, "speeds": speeds, **about}


def engines(kind: Kind, words: int, folder: Path) -> dict[str, Any]:
    """nlpkit's model on torch, and as an export."""
    torch.manual_seed(0)
    head = HeadSpec(level=kind.level, size=words)
    vocabulary = Vocabulary(size=words, max_length=256)
    options = TransformerConfig(**kind.sizes, dropout=0.0, positions=kind.positions)
    model = build(options, head, vocabulary, weights=True).eval()
    codec, device = Codec({}, vocabulary), torch.device("cpu")
    codec.head = head
    engine = TorchEngine(model, codec, device=device, precision=resolve_precision("fp32", device))
    some = {"rows": 2, "tokens": 7, "past": 3, "present": 10, "source": 5}
    graphs = {
        name: replace(
            graph,
            sample={
                given: np.ones(shape_of(axes, some, other=1), np.int64 if len(axes) == 2 else "f4")
                for given, axes in graph.spec.inputs.items()
            },
        )
        for name, graph in engine.modules.items()
    }
    described = {"schema": {}, "task": {"name": "clm"}, "nlpkit": ""}
    (folder / "nlpkit.json").write_text(json.dumps(described))
    onnx.build(OnnxConfig()).export(graphs, folder)
    return {"torch": engine, "ONNX": OnnxEngine(folder, engine.graphs)}


def own(engine: Any, ids: np.ndarray, new: int) -> Callable[[Any], int]:
    """Writes as `nlpkit predict` does, without an end; gives how many tokens a text has."""
    prompts, settings, source = [*ids], Settings(max_tokens=new), None
    if "encoder" in engine.graphs:
        source = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        prompts = [np.array([0])] * len(ids)
    return lambda _: min(
        len(each.ids) for each in generate(engine, prompts, settings, source=source)
    )


def gpt2(words: int, sizes: dict[str, int]) -> Any:
    """transformers' decoder, without an end."""
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
    return transformers.GPT2LMHeadModel(config).eval()


def marian(words: int, sizes: dict[str, int]) -> Any:
    """transformers' encoder and decoder, without an end."""
    layers, hidden, heads = (sizes[name] for name in ("layers", "hidden", "heads"))
    halves = {
        f"{half}_{name}": value
        for half in ("encoder", "decoder")
        for name, value in {
            "layers": layers,
            "attention_heads": heads,
            "ffn_dim": 4 * hidden,
        }.items()
    }
    config = transformers.MarianConfig(
        vocab_size=words,
        max_position_embeddings=256,
        d_model=hidden,
        activation_function="relu",
        scale_embedding=True,
        pad_token_id=0,
        decoder_start_token_id=0,
        eos_token_id=None,
        forced_eos_token_id=None,
        attn_implementation="sdpa",
        **halves,
    )
    return transformers.MarianMTModel(config).eval()


def written_by(model: Any, ids: np.ndarray, new: int) -> Callable[[Any], int]:
    """transformers' `generate`; gives how many tokens a text has."""
    given = torch.from_numpy(ids)
    options = {"max_new_tokens": new, "do_sample": False, "use_cache": True}
    before = 1 if model.config.is_encoder_decoder else ids.shape[1]

    def write(_: Any) -> int:
        found = model.generate(given, attention_mask=torch.ones_like(given), **options)
        return int(found.shape[1]) - before

    return write


def text(work: Work, kind: Kind) -> str:
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
        **kind.sizes,
        positions=kind.positions,
        **dict(zip(("what", "given", "peer"), kind.about, strict=True)),
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
