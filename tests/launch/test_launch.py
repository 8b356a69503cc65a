"""The local launcher: whatever happens to a rank ends the job soon, by name, and leaves nothing."""

from __future__ import annotations

import os
import time

import pytest

import nlpkit
from nlpkit.run.rank import Notes
from tests.launch.plays import alive, pids

FINISHES = "def run(rank, stop, at): return steps(rank, stop, at, 3)"
GOES_ON = "def run(rank, stop, at): return steps(rank, stop, at, 10_000)"


def test_ranks_run_to_the_end(launch, tmp_path):
    assert launch(FINISHES, ranks=3) is True
    assert not [pid for pid in pids(tmp_path, 3) if alive(pid)]


def test_ranks_are_told_to_stop_and_save(launch, tmp_path):
    stop = (tmp_path / "pid-1").exists
    assert launch(GOES_ON, stop=stop) is False
    assert (tmp_path / "saved-0").exists()
    assert (tmp_path / "saved-1").exists()


def test_a_rank_that_raises_ends_the_job_with_its_rank_its_step_and_one_traceback(launch, capfd):
    play = """
        def run(rank, stop, at):
            steps(rank, stop, at, 7)
            if rank == 1:
                {}["missing"]
            time.sleep(1000)
    """
    started = time.monotonic()
    with pytest.raises(nlpkit.RunError, match=r"^rank 1, step 7: KeyError: 'missing'$"):
        launch(play)
    assert time.monotonic() - started < 10
    _, err = capfd.readouterr()
    assert err.count("Traceback") == 1
    assert "play.py" in err


def test_a_plugins_error_keeps_its_class_and_tells_the_rank(launch):
    play = """
        import nlpkit

        class Mine(nlpkit.PluginError):
            def __init__(self, code, text):
                super().__init__(text)

        def run(rank, stop, at):
            at(2)
            if rank == 1:
                raise Mine(1, "no gradient")
            time.sleep(1000)
    """
    with pytest.raises(nlpkit.PluginError, match=r"^rank 1, step 2: no gradient$") as caught:
        launch(play)
    assert type(caught.value) is nlpkit.PluginError


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        ("DataError('a.csv:3', problem='is bad')", nlpkit.InputError),
        ("ConfigError([Problem(message='a.csv:3: is bad')])", nlpkit.InputError),
        ("CheckpointError('a.csv:3: is bad')", nlpkit.CheckpointError),
        ("NonFiniteError('a.csv:3: is bad')", nlpkit.NonFiniteError),
        ("RunError('a.csv:3: is bad')", nlpkit.RunError),
        ("PermissionError(13, 'is bad', 'a.csv:3')", nlpkit.RunError),
    ],
)
def test_what_all_ranks_raise_is_no_ranks_fault(launch, raised, kind, capfd):
    play = f"""
        from nlpkit.errors import *
        def run(rank, stop, at):
            raise {raised}
    """
    with pytest.raises(nlpkit.NlpkitError, match=r"^a.csv:3: is bad$") as caught:
        launch(play)
    assert type(caught.value) is kind
    assert capfd.readouterr() == ("", "")


def test_a_killed_rank_is_the_cause_though_others_notice_first(launch, tmp_path):
    play = """
        import signal

        def run(rank, stop, at):
            steps(rank, stop, at, 42)
            if rank == 1:
                with open(here / "peer", "w"):
                    time.sleep(0.2)
                    os.kill(os.getpid(), signal.SIGKILL)
            (here / "peer").read_text()
            raise RuntimeError("Connection closed by peer")
    """
    os.mkfifo(tmp_path / "peer")
    with pytest.raises(nlpkit.RunError, match=r"^rank 1, step 42: it was killed by signal 9 "):
        launch(play)


def test_nobody_waits_for_a_rank_that_is_stuck(launch, tmp_path):
    play = """
        import signal, threading

        def run(rank, stop, at):
            steps(rank, stop, at, 3)
            if rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
            time.sleep(1000)
    """
    started = time.monotonic()
    with pytest.raises(nlpkit.RunError, match=r"^rank 1, step 3: .*Killed"):
        launch(play, ranks=3)
    assert time.monotonic() - started < 10
    assert not [pid for pid in pids(tmp_path, 3) if alive(pid)]


def test_what_a_rank_wrote_is_shown_when_it_dies_without_a_word(launch, capsys):
    play = """
        def run(rank, stop, at):
            if rank == 1:
                print("the last words")
                os._exit(7) if not os.system("echo of a child") else None
            time.sleep(1000)
    """
    with pytest.raises(nlpkit.RunError, match=r"^rank 1, before its first step: .* exit code 7"):
        launch(play)
    assert "of a child" in capsys.readouterr().err


def test_the_first_rank_is_heard_where_stderr_was_replaced_and_others_are_not(launch, capsys):
    play = """
        def run(rank, stop, at):
            print(f"rank {rank} says", flush=True)
            print("half a line", end="", flush=True)
            return True
    """
    assert launch(play)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "rank 0 says\nhalf a line\n"


def test_whatever_is_raised_here_no_rank_is_left(launch, tmp_path):
    def stop():
        if (tmp_path / "pid-0").exists() and (tmp_path / "pid-1").exists():
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        launch(GOES_ON, stop=stop)
    assert not [pid for pid in pids(tmp_path) if alive(pid)]


def test_a_signal_to_one_rank_alone_stops_all_and_is_named(launch, tmp_path):
    play = """
        import signal

        def run(rank, stop, at):
            if rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            while not (here / "stopping").exists():
                at(4)
                if stop():
                    (here / "stopping").touch()
            return False
    """
    with pytest.raises(nlpkit.RunError, match=r"^rank 1, step 4: it was sent SIGTERM; .* saved$"):
        launch(play)


def test_ranks_import_what_this_process_can_and_their_children_do_not(
    launch, tmp_path, monkeypatch
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "only_here.py").touch()
    (tmp_path / "random.py").write_text("raise ImportError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    monkeypatch.setenv("PYTHONPATH", "of-the-user")
    play = """
        import random
        import only_here

        def run(rank, stop, at):
            return os.environ["PYTHONPATH"] == "of-the-user"
    """
    assert launch(play) is True


def test_a_step_is_written_down_in_microseconds(tmp_path):
    notes = Notes(tmp_path, 0)
    at = notes.pen()
    started = time.perf_counter()
    for step in range(10_000):
        at(step)
    assert (time.perf_counter() - started) / 10_000 < 50e-6
    assert notes.step == 9_999
