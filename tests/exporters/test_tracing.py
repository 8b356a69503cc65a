from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nlpkit
from nlpkit.contracts import Graph, GraphSpec
from nlpkit_exporters import torch_export, torchscript
from nlpkit_exporters.tracing import quiet, tracing

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

SAMPLE = {
    "input_ids": np.array([[1, 2, 3, 4], [4, 5, 0, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]]),
}


def graphs(model: nn.Module) -> dict[str, Graph]:
    axes = dict.fromkeys(SAMPLE, ("rows", "tokens"))
    spec = GraphSpec(inputs=axes, outputs={"logits": ("rows", 16)})
    return {"model": Graph(module=model, spec=spec, sample=SAMPLE)}


class Attentive(nn.Module):
    """PyTorch's own encoder: in evaluation it would take an operator that no format knows."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        padding = attention_mask == 0
        hidden = self.encoder(self.embedding(input_ids), src_key_padding_mask=padding)
        return hidden[:, 0]


class Branching(nn.Module):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return input_ids * 1.0 if input_ids.sum() > 3 else attention_mask * 1.0


@pytest.mark.parametrize(
    "exporter", [torchscript, pytest.param(torch_export, marks=pytest.mark.slow)]
)
def test_pytorchs_own_encoder_is_written(tmp_path: Path, exporter: ModuleType) -> None:
    model = Attentive().eval()
    artifact = exporter.build(None).export(graphs(model), tmp_path)
    with quiet():
        opened = (
            torch.jit.load(artifact.files[0])
            if exporter is torchscript
            else torch.export.load(artifact.files[0]).module()
        )
    torch.manual_seed(0)
    for batch, length in [(1, 1), (3, 7)]:
        ids = torch.randint(1, 20, (batch, length))
        mask = torch.ones_like(ids)
        mask[-1, 2:] = 0
        assert torch.allclose(opened(ids, mask), model(ids, mask), rtol=0, atol=1e-5)


def test_what_torch_cannot_write_is_an_error_of_one_line_that_names_the_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(nlpkit.RunError, match="^torch_export: torch cannot .* Branching") as caught:
        torch_export.build(None).export(graphs(Branching()), tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_logging_and_short_cuts_are_afterwards_as_before() -> None:
    before = logging.root.manager.disable, torch.backends.mha.get_fastpath_enabled()
    with tracing(nn.Identity(), "onnx"):
        assert not torch.backends.mha.get_fastpath_enabled()
    assert (logging.root.manager.disable, torch.backends.mha.get_fastpath_enabled()) == before


def test_only_the_warnings_that_are_known_are_kept_back() -> None:
    with quiet():
        warnings.warn("`torch.jit.trace` is deprecated.", DeprecationWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="something new"):
            warnings.warn("something new", stacklevel=1)
