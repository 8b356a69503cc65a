from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

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
