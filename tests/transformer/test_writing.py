"""The decoder's graph: what was computed once is remembered, on torch, ONNX and TorchScript."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from nlpkit.contracts import Codec, HeadSpec, Vocabulary
from nlpkit.engine.generate import Steps, shape_of
from nlpkit.engine.onnx import OnnxSession
from nlpkit.engine.precision import resolve_precision
from nlpkit.engine.torch import TorchEngine
from nlpkit_exporters import onnx, torch_export, torchscript
from nlpkit_exporters.config import OnnxConfig
from nlpkit_exporters.tracing import quiet, runner
from nlpkit_transformer.config import TransformerConfig
from nlpkit_transformer.layers import behind
from nlpkit_transformer.model import Writer, build
from tests.transformer.test_transformer_model import perturb

if TYPE_CHECKING:
    from pathlib import Path

    from nlpkit.contracts import Arrays, GraphSpec


VOCABULARY = Vocabulary(size=50, max_length=24)
HEAD = HeadSpec(level="next", size=50)
POSITIONS = pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
LENGTHS = (7, 2, 5)
IDS = np.random.default_rng(1).integers(0, 50, (3, 12))


def writer(**options: Any) -> Writer:
    torch.manual_seed(0)
    small = TransformerConfig(**{"layers": 2, "hidden": 16, "heads": 2, **options})
    model = build(small, HEAD, VOCABULARY, weights=True)
    perturb(model)
    assert isinstance(model, Writer)
    return model.eval()


def engine_of(model: Writer, precision: str = "fp32") -> TorchEngine:
    codec, device = Codec({}, VOCABULARY), torch.device("cpu")
    codec.head = HEAD
    return TorchEngine(model, codec, device=device, precision=resolve_precision(precision, device))


def expected(model: Writer, row: int, length: int) -> np.ndarray:
    """The logits after the first tokens of a row, without a cache."""
    ids = torch.from_numpy(IDS[row : row + 1, :length])
    with torch.no_grad():
        return model(ids, torch.ones_like(ids)).logits()[0, -1].numpy()


def prompts(side: str) -> Arrays:
    ids, mask = np.zeros((3, 7), np.int64), np.zeros((3, 7), np.int64)
    for row, length in enumerate(LENGTHS):
        start = 7 - length if side == "left" else 0
        ids[row, start : start + length] = IDS[row, :length]
        mask[row, start : start + length] = 1
    return {"input_ids": ids, "attention_mask": mask}


@POSITIONS
@pytest.mark.parametrize("side", ["left", "right"])
def test_with_a_cache_prompts_of_any_length_go_on_as_each_does_without(
    positions: str, side: str
) -> None:
    model = writer(positions=positions)
    steps, given = Steps(engine_of(model)), prompts(side)
    logits, mask = steps.start(given)["logits"], given["attention_mask"]
    for step in range(5):
        assert logits.shape == (3, 1, 50)
        for row, length in enumerate(LENGTHS):
            assert logits[row, 0] == pytest.approx(expected(model, row, length + step), abs=1e-5)
        ids = np.array([[IDS[row, length + step]] for row, length in enumerate(LENGTHS)])
        mask = np.pad(mask, ((0, 0), (0, 1)), constant_values=1)
        logits = steps.step({"input_ids": ids, "attention_mask": mask})["logits"]


def test_several_tokens_at_a_time_and_some_of_them_padding_come_to_the_same() -> None:
    model = writer()
    steps, mask = Steps(engine_of(model)), np.ones((3, 4), np.int64)
    steps.start({"input_ids": IDS[:, :4], "attention_mask": mask})
    mask = np.concatenate([mask, [[1, 1, 1], [1, 0, 0], [1, 1, 0]]], axis=1)
    logits = steps.step({"input_ids": IDS[:, 4:7], "attention_mask": mask})["logits"]
    for row, length in enumerate((7, 5, 6)):
        assert logits[row, 0] == pytest.approx(expected(model, row, length), abs=1e-5)


def test_no_token_passes_the_first_layer_twice() -> None:
    model, seen = writer(), list[int]()
    model.decoder.layers[0].register_forward_hook(
        lambda _, given, __: seen.append(given[0][..., 0].numel())
    )
    steps = Steps(engine_of(model))
    steps.start(prompts("left"))
    for length in (8, 9):
        ones = np.ones((3, length), np.int64)
        steps.step({"input_ids": ones[:, :1], "attention_mask": ones})
    assert seen == [21, 3, 3]


def test_in_16_bits_memory_and_new_tokens_fit_together() -> None:
    model = writer()
    engines = [engine_of(model, precision) for precision in ("fp32", "bf16")]
    mask, found = np.ones((3, 8), np.int64), []
    for engine in engines:
        steps = Steps(engine)
        steps.start({"input_ids": IDS[:, :7], "attention_mask": mask[:, :7]})
        found.append(steps.step({"input_ids": IDS[:, 7:8], "attention_mask": mask})["logits"])
    assert found[1] == pytest.approx(found[0], abs=0.2)
    assert not np.array_equal(*found)


def arrays(spec: GraphSpec, **sizes: int) -> dict[str, np.ndarray]:
    """Random inputs; of every other row the second half is padding."""
    random = np.random.default_rng(2)
    sizes["present"] = sizes["past"] + sizes["tokens"]
    found = {
        name: random.standard_normal(shape_of(axes, sizes, other=0), np.float32)
        for name, axes in spec.inputs.items()
    }
    found["input_ids"] = random.integers(0, 50, found["input_ids"].shape)
    found["attention_mask"] = np.ones(found["attention_mask"].shape, np.int64)
    found["attention_mask"][1::2, (sizes["present"] + 1) // 2 :] = 0
    return found


def opened_onnx(path: Path, spec: GraphSpec) -> Any:
    session = OnnxSession(path / "model.onnx")
    assert set(session.inputs) == set(spec.inputs)
    assert session.outputs == list(spec.outputs)
    return session.run


FORMATS = {
    "onnx": (onnx.build(OnnxConfig()), opened_onnx),
    "torchscript": (
        torchscript.build(None),
        lambda path, spec: runner(torch.jit.load(path / "model.pt"), spec),
    ),
    "torch_export": (
        torch_export.build(None),
        lambda path, spec: runner(torch_export.loaded(path / "model.pt2"), spec),
    ),
}


@pytest.mark.parametrize(
    ("positions", "format"),
    [
        pytest.param("rotary", "onnx", marks=pytest.mark.slow),
        ("rotary", "torchscript"),
        pytest.param("rotary", "torch_export", marks=pytest.mark.slow),
        pytest.param("sinusoidal", "onnx", marks=pytest.mark.slow),
        pytest.param("learned", "onnx", marks=pytest.mark.slow),
    ],
)
def test_an_export_says_what_the_decoder_says_after_pasts_of_any_length(
    positions: str, format: str, tmp_path: Path
) -> None:
    graph = writer(positions=positions, tied=positions != "learned").graphs()["model"]
    graph.module.eval()
    exporter, open_ = FORMATS[format]
    described = {"schema": {}, "task": {"name": "clm"}, "nlpkit": "0.2.0"}
    (tmp_path / "nlpkit.json").write_text(json.dumps(described))
    sample = arrays(graph.spec, rows=2, tokens=7, past=3)
    exporter.export({"model": replace(graph, sample=sample)}, tmp_path)
    with quiet():
        export = open_(tmp_path, graph.spec)
    own = runner(graph.module, graph.spec)
    for rows, (tokens, past) in product((1, 2, 3), ((1, 0), (1, 1), (7, 0), (7, 1), (1, 23))):
        given = arrays(graph.spec, rows=rows, tokens=tokens, past=past)
        for one, other in zip(own(given), export(given), strict=True):
            assert other == pytest.approx(one, abs=1e-5)


def test_tokens_behind_others_are_what_cat_gives_and_change_none_that_is_in_use() -> None:
    drawn = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        found = expected = torch.zeros(2, 3, 0, 4)
        places = list[int]()
        for count in (5, *[1] * 150):
            before, kept = found, found.clone()
            new = torch.randn(2, count, 3, 4, generator=drawn).transpose(1, 2)
            found, expected = behind(found, new), torch.cat([expected, new], dim=2)
            other = behind(before, new + 1)  # goes on from the same place
            assert found.equal(expected)
            assert other[:, :, -count:].equal(new + 1)
            assert before.equal(kept)
            places.append(found.data_ptr())
        assert behind(found[1:], new[1:])[0].equal(behind(found, new)[1])
    assert sum(a != b for a, b in pairwise(places)) == 150 // 65  # where all was copied
