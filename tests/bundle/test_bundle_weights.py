from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import nlpkit
from nlpkit.bundle.format import WEIGHTS
from nlpkit.engine.weights import load_weights, save_weights

if TYPE_CHECKING:
    from pathlib import Path


class Tied(nn.Module):
    """An output layer that is its embedding, as language models have."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.embedding.weight
        self.register_buffer("scale", torch.rand(2, 4).T)


def test_tied_weights_come_back_tied_and_equal(tmp_path: Path) -> None:
    saved, loaded = Tied(1), Tied(2)
    save_weights(tmp_path / WEIGHTS, saved)
    load_weights(tmp_path / WEIGHTS, loaded)
    assert loaded.out.weight is loaded.embedding.weight
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_weights(tmp_path / name / WEIGHTS, Tied(1))
    first, second = (tmp_path / name / "model.safetensors" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_weights_of_another_model_are_refused_with_what_does_not_fit(tmp_path: Path) -> None:
    save_weights(tmp_path / WEIGHTS, nn.Linear(3, 5))
    with pytest.raises(nlpkit.BundleError, match=r"does not fit the model.*embedding\.weight"):
        load_weights(tmp_path / WEIGHTS, Tied(1))


def test_weights_that_the_disk_refuses_are_an_os_error_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        save_weights(tmp_path / "gone" / WEIGHTS, nn.Linear(2, 2))
    assert caught.value.filename == str(tmp_path / "gone" / "model.safetensors")


def test_a_failed_save_leaves_the_old_weights(tmp_path: Path) -> None:
    save_weights(tmp_path / WEIGHTS, nn.Linear(2, 2))
    before = (tmp_path / "model.safetensors").read_bytes()
    unsavable = nn.Linear(2, 2)
    unsavable.weight = nn.Parameter(torch.empty(2, 2, device="meta"))
    with pytest.raises(NotImplementedError):
        save_weights(tmp_path / WEIGHTS, unsavable)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_bytes() == before
