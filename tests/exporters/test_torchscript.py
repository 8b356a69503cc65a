"""A trace runs on any device, or says that it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nlpkit.contracts import Graph, GraphSpec
from nlpkit_exporters.torchscript import build, device_constants
from nlpkit_exporters.tracing import quiet
from tests.exporters.exports import ENCODERS, MODELS, Exported, arrays, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def graphs(model: nn.Module) -> dict[str, Graph]:
    spec = GraphSpec(inputs={"input_ids": ("rows", "tokens")}, outputs={"logits": ("rows", 4)})
    sample = {"input_ids": np.array([[1, 2, 3], [4, 5, 0]])}
    return {"model": Graph(module=model, spec=spec, sample=sample)}


class Positions(nn.Module):
    """Adds positions from `torch.arange` on the device of its input: the trace keeps "cpu"."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        return self.embedding(input_ids + places).sum(dim=1)


class Table(nn.Module):
    """Has a tensor that is neither parameter nor buffer, in a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.scale = Scale()

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.scale(self.embedding(input_ids).sum(dim=1))


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.arange(4.0)

    def forward(self, values: Tensor) -> Tensor:
        return values * self.weights * torch.tensor(2.0)


def constants(traced: Any) -> Iterator[Any]:
    """Every constant of a module and the modules in it, each graph by itself."""
    for module in traced.modules():
        if module._c._has_method("forward"):
            yield from module.graph.findAllNodes("prim::Constant", recurse=True)


@pytest.mark.parametrize("model", [*MODELS, *sorted(ENCODERS.keys() - {"modernbert"})])
def test_the_graph_names_no_device(tmp_path: Path, model: str) -> None:
    exported = Exported(run_of(tmp_path / "run", model), "torchscript", tmp_path / "out")
    with quiet():
        traced = torch.jit.load(tmp_path / "out" / "model.pt")
    found = list(constants(traced))
    assert len(found) > 5
    assert [str(each) for each in found if str(each.output().type()) == "Device"] == []
    assert device_constants(traced) == []
    assert "runs there only" not in exported.artifact.note


def test_a_trace_of_modernbert_is_bound_to_the_cpu_and_says_so(tmp_path: Path) -> None:
    exported = Exported(run_of(tmp_path / "run", "modernbert"), "torchscript", tmp_path / "out")
    assert "the trace runs there only" in exported.artifact.note


@pytest.mark.parametrize("model", [Positions, Table])
def test_a_model_that_is_bound_to_the_cpu_is_named(tmp_path: Path, model: type) -> None:
    artifact = build(None).export(graphs(model().eval()), tmp_path)
    assert "the trace runs there only" in artifact.note


def test_the_note_says_that_torchscript_is_deprecated_and_what_replaces_it(tmp_path: Path) -> None:
    artifact = build(None).export(graphs(nn.Embedding(20, 4)), tmp_path)
    assert "deprecated upstream" in artifact.note
    assert "torch.export" in artifact.note
    assert "\n" not in artifact.note


def test_no_call_is_watched_to_be_compiled_later(tmp_path: Path) -> None:
    exported = Exported(run_of(tmp_path / "run", "a stranger's"), "torchscript", tmp_path / "out")
    usual = torch._C._jit_set_fusion_strategy([("STATIC", 3)])
    try:
        for _ in range(2):
            exported.call(arrays(2, 3, exported.inputs))
            assert "prim::profile" not in str(torch.jit.last_executed_optimized_graph())
        assert torch._C._jit_set_fusion_strategy(usual) == [("STATIC", 3)]
    finally:
        torch._C._jit_set_fusion_strategy(usual)
