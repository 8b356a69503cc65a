from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import nlpkit
from tests.bundle.bundles import make_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_run(tmp_path_factory.mktemp("runs") / "cards")


@pytest.fixture
def run(_made: Path, tmp_path: Path) -> Path:
    """A run folder of this test's own."""
    return shutil.copytree(_made, tmp_path / "runs" / "cards")


@pytest.fixture(scope="session")
def _exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an ONNX export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        run = make_run(tmp_path_factory.mktemp("exported") / "cards")
        nlpkit.export(run, "onnx")
        return run
