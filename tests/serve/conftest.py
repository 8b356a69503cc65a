from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import nlpkit
from tests.bundle.bundles import PAIRS, TEXTS, make_run
from tests.serve.serving import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nlpkit.bundle.predict import Model

WAYWARD = """
import time

import nlpkit
from torch import nn


class Wayward(nn.Module):
    def __init__(self, head, vocabulary):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary.size, head.size)

    def forward(self, input_ids):
        first, second, third = (input_ids[:, at : at + 1] for at in (1, 2, 3))
        if (first == second).any():
            raise MemoryError("there is none left")
        if (first == third).any():
            time.sleep(1)
        return self.embedding(input_ids)


def build(options, head, vocabulary, *, weights):
    return Wayward(head, vocabulary)


@nlpkit.hookimpl
def nlpkit_models():
    yield nlpkit.ModelRecord(name="wayward", target="wayward:build")
"""
"""Fails on a text whose first two tokens are the same, and is slow where first and third are."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where everything of these tests lies."""
    folder = tmp_path_factory.mktemp("serve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="session")
def run(folder: Path) -> Path:
    """A run on single texts."""
    return make_run(folder / "run")


@pytest.fixture(scope="session")
def model(run: Path) -> Model:
    """The model of `run`, here."""
    return nlpkit.load(run)


@pytest.fixture(scope="session")
def pairs(folder: Path) -> Model:
    """A model of pairs."""
    return nlpkit.load(make_run(folder / "pairs", PAIRS, text=["first", "second"]))


@pytest.fixture(scope="session")
def writer(folder: Path) -> Path:
    """A run that writes, a character at a time, what nobody taught it."""
    rows = [{"text": text} for text in (*TEXTS, "0123456789" * 30)]
    characters = {"name": "char", "max_length": 400, "whitespace": "keep"}
    return make_run(folder / "writer", rows, name="clm", tokenizer=characters)


@pytest.fixture(scope="session")
def wayward(folder: Path) -> Path:
    """A run whose model fails and is slow, by the text."""
    plugin = folder / "wayward.py"
    plugin.write_text(WAYWARD)
    return make_run(folder / "wayward", model="wayward", plugins=[str(plugin)])


@pytest.fixture(scope="session")
def server(run: Path, folder: Path) -> Iterator[Server]:
    """`nlpkit serve run`."""
    with Server(run, folder / "server.log") as server:
        yield server
