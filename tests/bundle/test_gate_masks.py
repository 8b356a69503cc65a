"""Law 6 with logits that a model masks: equal infinities are equal, others are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import nlpkit
from tests.bundle.bundles import make_run

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = """
import nlpkit
import torch


class Masked(torch.nn.Module):
    def __init__(self, options, head, vocabulary):
        super().__init__()
        self.options = options
        self.embedding = torch.nn.EmbeddingBag(vocabulary.size, head.size)

    def forward(self, input_ids):
        traced = torch.jit.is_tracing()
        masked = torch.arange(self.embedding.embedding_dim) == 1 + (traced and self.options.moved)
        value = torch.nan if traced and self.options.nan else -torch.inf
        return self.embedding(input_ids).masked_fill(masked, value)


class Options(nlpkit.ComponentConfig):
    moved: bool = False
    nan: bool = False


def build(options, head, vocabulary, *, weights):
    return Masked(options, head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="masked", target="masked:build", config="masked:Options")
"""


def masked(folder: Path, **options: bool) -> Path:
    plugin = folder / "masked.py"
    plugin.write_text(PLUGIN)
    model = {"name": "masked", **options}
    return make_run(folder / "cards", plugins=[str(plugin)], model=model)


def test_infinities_at_the_same_places_are_equal(tmp_path: Path) -> None:
    run = masked(tmp_path)
    parity = nlpkit.export(run, "torchscript", trust_plugins=True).parity
    assert parity["difference"] < 1e-6
    assert parity["agreement"] == 1.0


@pytest.mark.parametrize("option", ["moved", pytest.param("nan", marks=pytest.mark.slow)])
def test_infinities_at_other_places_and_what_is_no_number_are_refused(
    tmp_path: Path, option: str
) -> None:
    run = masked(tmp_path, **{option: True})
    with pytest.raises(nlpkit.RunError, match="logits that are no finite numbers"):
        nlpkit.export(run, "torchscript", trust_plugins=True)
