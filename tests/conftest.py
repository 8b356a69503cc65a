from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import nlpkit  # noqa: F401 - before onnxruntime, which must not report to its maker

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A job in the background ignores Ctrl-C, one under nohup SIGHUP, and so would every process below.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, signal.SIG_DFL)

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: NLPKIT_TEST_DATA, or ../shared/data where it exists."""
    named = os.environ.get("NLPKIT_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not named and not folder.exists():
        pytest.skip(f"real data are not here: {folder} (set NLPKIT_TEST_DATA)")
    return folder


@pytest.fixture
def _asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate asks an export in this process: for tests of what it makes of the answers."""
    from nlpkit.bundle import gate, parity

    def asked(export: Path, folder: str) -> list[str]:
        gate.main([str(export), folder])
        return []

    monkeypatch.setattr(parity, "_asked_elsewhere", asked)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and caches of a test go into its own folder."""
    monkeypatch.delenv("NLPKIT_WORKSPACE", raising=False)
    monkeypatch.setenv("NLPKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
