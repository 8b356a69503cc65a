from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import nlpkit.run.launch
from nlpkit.run.launch import LocalLauncher
from tests.launch.plays import play_of


@pytest.fixture
def launch(tmp_path, monkeypatch) -> Callable[..., bool]:
    """Launches ranks that do what a play says."""
    monkeypatch.setattr(nlpkit.run.launch, "_MODULE", "stand_in")
    monkeypatch.setattr(nlpkit.run.launch, "_GRACE", 1.0)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def launched(source: str, ranks: int = 2, stop: Callable[[], bool] = lambda: False) -> bool:
        (tmp_path / "play.py").write_text(play_of(source))
        return LocalLauncher().launch(tmp_path, ranks, stop)

    return launched
