"""More connections at once than the process may open files."""

from __future__ import annotations

import asyncio
import resource

import pytest

from tests.bundle.bundles import TEXTS
from tests.serve.serving import REFUSED, Server, held


def files(soft: int, hard: int, more: str = "") -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); {more}"


@pytest.mark.slow
def test_those_beyond_the_limit_are_refused_with_few_files_and_nothing_is_logged(run, tmp_path):
    with Server(run, tmp_path / "log", limits=files(128, 128)) as server:
        assert asyncio.run(held(server, 300)) == {"nothing": 64, REFUSED: 300 - 64}
        assert server.ask({"text": TEXTS[0]})[0] == 200
        assert server.log.read_text().count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("hard", [1024, 4096])
def test_two_thousand_connections_at_once_are_served_or_refused(run, tmp_path, hard):
    soft, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < 2200:
        pytest.skip("this process may not open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2200), limit))
    try:
        with Server(run, tmp_path / "log", limits=files(1024, hard)) as server:
            assert asyncio.run(held(server, 2000)) == {"nothing": 800, REFUSED: 1200}
            assert server.ask({"text": TEXTS[0]})[0] == 200
            found = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
            assert found == (min(hard, 1600), hard)
            assert server.log.read_text().count("\n") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limit))


@pytest.mark.slow
def test_where_files_run_out_one_line_says_so_and_those_that_wait_are_taken_later(run, tmp_path):
    limits = files(128, 128, "server._connections, server._TAKEN = (lambda: 800), 2048")
    with Server(run, tmp_path / "log", limits=limits) as server:
        asyncio.run(held(server, 600))
        assert server.ask({"text": TEXTS[0]})[0] == 200
        lines = server.log.read_text().splitlines()
        assert lines[1:] == [
            "warning: no connection can be taken: Too many open files (ulimit -n); they wait"
        ]
