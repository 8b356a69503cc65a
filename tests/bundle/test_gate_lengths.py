"""A model need not take lengths that no text has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nlpkit
from tests.bundle.bundles import make_run
from tests.bundle.test_export_gate import JITTER

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)

NARROW = """
import nlpkit
import torch


class Narrow(torch.nn.Module):
    def __init__(self, head, vocabulary, width):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary.size, 8)
        self.convolution = torch.nn.Conv1d(8, head.size, width)

    def forward(self, input_ids, attention_mask):
        embedded = self.embedding(input_ids) * attention_mask[:, :, None]
        return self.convolution(embedded.transpose(1, 2)).amax(2)


class Options(nlpkit.ComponentConfig):
    width: int = 3


def build(options, head, vocabulary, *, weights):
    return Narrow(head, vocabulary, options.width)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="narrow", target="narrow:build", config="narrow:Options")
"""


@pytest.fixture
def narrow(tmp_path: Path) -> Callable[[int], Path]:
    """A run whose model takes no fewer tokens than it is told."""
    plugins = [str(tmp_path / name) for name in ("jitter.py", "narrow.py")]
    for path, text in zip(plugins, (JITTER, NARROW), strict=True):
        Path(path).write_text(text)
    return lambda width: make_run(
        tmp_path / "cards", plugins=plugins, model={"name": "narrow", "width": width}
    )


@pytest.mark.usefixtures("_asked_here")
def test_no_export_is_asked_a_length_that_no_text_has_and_the_model_does_not_take(
    narrow: Callable[[int], Path],
) -> None:
    parity = nlpkit.export(narrow(3), "jitter", trust_plugins=True).parity
    lengths = {each["length"] for each in parity["shapes"]}
    assert lengths == {3, 4, 5, 7, 8, 9, 15, 16}
    assert parity["agreement"] == 1.0


@pytest.mark.usefixtures("_asked_here")
def test_a_model_that_fails_at_the_length_of_a_text_has_no_export(
    narrow: Callable[[int], Path],
) -> None:
    with pytest.raises(nlpkit.RunError, match="the model itself fails"):
        nlpkit.export(narrow(4), "jitter", trust_plugins=True)
