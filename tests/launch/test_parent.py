"""What happens to the launcher's process: Ctrl-C, a scheduler's SIGTERM, a kill."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from tests.launch.plays import alive, pids, play_of, wait_for

SCRIPT = f"""
import sys
from pathlib import Path

import nlpkit.run.launch
from nlpkit.signals import interruptible

nlpkit.run.launch._MODULE = "stand_in"
sys.path.append({str(Path(__file__).parent)!r})
with interruptible() as stop, stop.deferred():
    finished = nlpkit.run.launch.LocalLauncher().launch(Path(sys.argv[1]), 2, stop)
    sys.exit(0 if finished else 128 + stop.signal)
"""
GOES_ON = "def run(rank, stop, at): return steps(rank, stop, at, 10_000)"
STUCK = """
    import nlpkit.run.rank

    nlpkit.run.rank._ALONE = 1

    def run(rank, stop, at):
        steps(rank, lambda: False, at, 3)
        (here / f"stuck-{rank}").touch()
        time.sleep(1000)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a script without a main guard that launches what a play says."""
    started = []

    def start(play):
        (tmp_path / "play.py").write_text(play_of(play))
        (tmp_path / "script.py").write_text(dedent(SCRIPT))
        command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
        started.append(subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE))
        return started[0], pids(tmp_path)

    yield start
    for process in started:
        process.kill()
        process.stderr.close()
        process.wait()


def saved(folder):
    return (folder / "saved-0").exists() and (folder / "saved-1").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_its_process_group_saves_and_leaves(start, tmp_path, number):
    process, ranks = start(GOES_ON)
    os.killpg(process.pid, number)
    assert process.wait(60) == 128 + number
    assert saved(tmp_path)
    assert not any(map(alive, ranks))


def test_sigterm_to_all_processes_at_once_is_one_sigterm(start, tmp_path):
    process, ranks = start(GOES_ON)
    for pid in (*ranks, process.pid):
        os.kill(pid, signal.SIGTERM)
    assert process.wait(60) == 143
    assert saved(tmp_path)


def test_ctrl_c_twice_ends_ranks_that_are_stuck(start, tmp_path):
    process, ranks = start(STUCK)
    wait_for((tmp_path / "stuck-1").exists)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert b"KeyboardInterrupt" in process.stderr.read()
    assert not any(map(alive, ranks))


def test_ranks_of_a_launcher_that_was_killed_save_and_leave(start, tmp_path):
    process, ranks = start(GOES_ON)
    process.kill()
    wait_for(lambda: not any(map(alive, ranks)))
    assert saved(tmp_path)


def test_ranks_of_a_launcher_that_was_killed_leave_though_they_are_stuck(start, tmp_path):
    process, ranks = start(STUCK)
    wait_for((tmp_path / "stuck-1").exists)
    process.kill()
    wait_for(lambda: not any(map(alive, ranks)))


def test_a_live_bar_of_a_killed_rank_leaves_a_cursor_behind(tmp_path):
    play = """
        import signal

        def run(rank, stop, at):
            if rank == 0:
                os.write(2, b"\\x1b[?25l a live bar")
                os.kill(os.getpid(), signal.SIGKILL)
    """
    (tmp_path / "play.py").write_text(play_of(play))
    (tmp_path / "script.py").write_text(dedent(SCRIPT))
    ours, theirs = pty.openpty()
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    done = subprocess.run(command, stdout=theirs, stderr=theirs, check=False)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 1
    assert " a live bar\x1b[?25h\r\n" in shown


def test_output_that_nobody_reads_any_more_does_not_keep_ranks_from_saving(start, tmp_path):
    play = """
        import sys

        def run(rank, stop, at):
            steps(rank, stop, at, 10_000)
            print("saved", file=sys.stderr, flush=True)
            (here / f"told-{rank}").touch()
            return False
    """
    process, ranks = start(play)
    process.kill()
    process.stderr.close()
    wait_for(lambda: not any(map(alive, ranks)))
    assert (tmp_path / "told-0").exists()
