"""One cluster of four logical GPUs for all tests that need one, and one that wants a token."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.jobs.cluster import Cluster, cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """\
name: small
data: sample
precision: fp32
model: {name: transformer, layers: 2, hidden: 32, heads: 2, dropout: 0}
train: {epochs: 2, log_every: 1}
checkpoint: {every: 5}
strategy: {name: ddp, devices: 1}
"""


def pytest_configure(config: pytest.Config) -> None:
    """Ray's own client says None to aiohttp where a log is followed."""
    config.addinivalue_line("filterwarnings", "ignore:ssl=None is deprecated:DeprecationWarning")


def pytest_itemcollected(item: pytest.Item) -> None:
    """A cluster takes seconds to start, and more for everything it does: `make test-jobs`."""
    if {"pool", "token_pool"} & set(item.fixturenames):
        item.add_marker("slow")


@pytest.fixture(scope="session")
def pool() -> Iterator[Cluster]:
    """A cluster of one node with 4 logical GPUs, and no authentication."""
    with cluster(4) as started:
        yield started


@pytest.fixture(scope="session")
def token_pool() -> Iterator[Cluster]:
    """A cluster of one node with 4 logical GPUs, which lets nobody in without its token."""
    with cluster(4, token=secrets.token_hex(32)) as started:
        yield started


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run of seconds."""
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A folder that all nodes of this machine see."""
    path = tmp_path / "storage"
    path.mkdir()
    return path
