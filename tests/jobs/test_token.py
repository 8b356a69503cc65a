"""A cluster with a token: who has none, or another one, can do nothing; and nothing shows it."""

from __future__ import annotations

import getpass
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nlpkit
from nlpkit.cli.main import main
from tests.jobs.cluster import Cluster, cluster
from tests.jobs.runs import submit

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

TOKEN, SECRET = secrets.token_hex(32), secrets.token_hex(20)


@pytest.fixture
def closed() -> Iterator[Cluster]:
    """A cluster with a token, whose nodes know a secret."""
    with cluster(4, token=TOKEN, env={"HUB_SECRET": SECRET}) as started:
        yield started


def test_submit_logs_stop_and_fetch_want_the_token_and_nothing_shows_it(
    closed: Cluster,
    config: Path,
    storage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "token"
    path.write_text(TOKEN)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    job = submit(config, closed, storage, "launch.secrets=[HUB_SECRET]")
    assert job.wait(240) == "succeeded", job.logs()
    launch = f"launch={{name: ray, storage: {storage}}}"
    lines = [
        ["submit", str(config), launch],
        ["logs", job.id],
        ["logs", job.id, "--follow"],
        ["stop", job.id],
        ["fetch", job.id, "--out", str(tmp_path / "fetched")],
        ["jobs"],
        ["status", job.id],
        ["pool"],
    ]
    before = sorted(each.name for each in storage.iterdir())
    capfd.readouterr()
    for wrong in ("", "0" * 64):
        path.write_text(wrong)
        for line in lines:
            assert main([*line, "--address", closed.address]) == 2
            out, err = capfd.readouterr()
            assert "token" in err
            assert not out
            assert TOKEN not in err
    assert sorted(each.name for each in storage.iterdir()) == before
    path.write_text(TOKEN)
    for line in lines[1:]:
        assert main([*line, "--address", closed.address]) == 0, capfd.readouterr().err
    assert nlpkit.Run(tmp_path / "fetched").metrics

    shown = "".join(capfd.readouterr()) + repr(job) + str(job.connection.jobs())
    assert TOKEN not in shown
    assert SECRET not in shown
    files = [each for folder in (closed.folder, tmp_path) for each in folder.rglob("*")]
    assert len(files) > 50
    for each in files:
        if each in (path, closed.folder / "token") or not stat.S_ISREG(each.lstat().st_mode):
            continue
        content = each.read_bytes()
        for value in (TOKEN, SECRET):
            assert value.encode() not in content, each
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert TOKEN.encode() not in entry.read_bytes()
        except OSError:  # it has ended
            continue
    assert getpass.getuser()
