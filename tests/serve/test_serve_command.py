"""What cannot be served is an error of one line, before a model is loaded."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from nlpkit.cli.main import main
from tests.serve.serving import command


def test_a_port_in_use_is_an_input_error(run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(run), "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot listen at 127.0.0.1, port {port}: Address already in use" in line


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7", "a" * 70, ""])
def test_a_host_that_is_not_here_is_an_input_error(run, capsys, host):
    assert main(["serve", str(run), "--port", "0", "--host", host]) == 2
    assert f"cannot listen at {host}, port 0" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_an_input_error(run, capsys, port):
    assert main(["serve", str(run), "--port", port]) == 2
    assert "'--port'" in capsys.readouterr().err


def test_a_run_that_is_none_is_an_input_error(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "nothing"), "--port", "0"]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_where_too_few_files_may_be_opened_it_says_so_before_it_listens(run):
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (71, 71))"
    line = command(str(run), "--port", "0", limits=few)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "which needs 72 for 8 connections; allow it 1600 (ulimit -n)" in done.stderr


def test_without_its_extra_it_says_what_to_install(run):
    code = (
        "import sys; sys.modules['uvicorn'] = None; from nlpkit.cli.main import main; "
        f"sys.exit(main(['serve', {str(run)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs uvicorn, which is not installed: pip install 'nlpkit-sdk[serve]'" in done.stderr
