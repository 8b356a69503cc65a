"""Bars: live on a terminal, lines now and then in a pipe; results stay on stdout."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from nlpkit.cli.render import Terminal, duration
from nlpkit.errors import ConfigError, InputError, PluginError, Problem

PROGRAM = """
import sys, time
from nlpkit.cli.render import Terminal

terminal = Terminal()
with terminal.bar("training on cpu", 40, "steps") as bar:
    for step in range(40):
        time.sleep(0.01)
        bar.advance(1, f"loss {1 / (step + 1):.4f}")
        if step == 20:
            terminal.note("epoch 1  accuracy 0.5")
terminal.say("the result")
"""


def on_a_terminal(program, columns, *, stdout=None):
    """What a program writes to a terminal of so many columns; `stdout` may go elsewhere."""
    main, side = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=side,
        stdout=stdout or side,
        stderr=side,
        env=environment,
    )
    os.close(side)
    written = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        written += part
    os.close(main)
    assert process.wait() == 0
    return written.decode()


def lines_of(screen):
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", screen)]


@pytest.mark.parametrize("columns", [80, 160])
def test_on_a_terminal_a_bar_is_live_and_fits(columns):
    screen = on_a_terminal(PROGRAM, columns)

    lines = lines_of(screen)
    assert "\x1b[" in screen
    assert max(map(len, lines)) <= columns
    last = [line for line in lines if line.startswith("training on cpu")][-1]
    assert re.search(r"━━━━━+ 40/40 steps  \d\d/s  in 0:0\d  loss 0\.0250", last)
    assert "epoch 1  accuracy 0.5" in [line.rstrip() for line in lines]
    assert "the result" in lines


def test_a_piped_result_stays_apart_from_the_live_bar(tmp_path):
    noisy = PROGRAM.replace("terminal.note", "terminal.say")
    with (tmp_path / "out").open("wb") as out:
        screen = on_a_terminal(noisy, 80, stdout=out)

    assert (tmp_path / "out").read_text() == "epoch 1  accuracy 0.5\nthe result\n"
    assert "the result" not in screen


def test_in_a_pipe_a_bar_is_plain_lines():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )

    assert run.stdout == "the result\n"
    note, last = run.stderr.splitlines()
    assert note == "epoch 1  accuracy 0.5"
    assert re.fullmatch(r"training on cpu: 40/40 steps  \d\d/s  in 0:0\d  loss 0\.0250", last)


def test_in_a_pipe_a_long_bar_speaks_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    with Terminal().bar("training", 36_000) as bar:
        for _ in range(36_000):
            now[0] += 1
            bar.advance()

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 5/36,000  1/s  9:59:55 left"
    assert lines[-1] == "training: 36,000/36,000  1/s  in 10:00:00"
    assert 500 < len(lines) < 800


def test_what_follows_the_last_advance_is_no_time_of_a_bar(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Terminal().bar("training", 60, "steps") as bar:
        now[0] = 3.0
        bar.advance(60)
        now[0] = 22.0  # an export, say
    assert capsys.readouterr().err.splitlines()[-1] == "training: 60/60 steps  20/s  in 0:03"


def test_errors_name_pythons_arguments_and_the_command_line_its_options(capsys):
    text = "x: go on (resume=True), choose another out=DIR, or trust_plugins=True; insecure=True"
    Terminal().error(InputError(text))
    expected = "x: go on (--resume), choose another --out, or --trust-plugins; --insecure"
    assert capsys.readouterr().err == f"error: {expected}\n"


def test_a_bar_that_fails_is_closed(capsys):
    def fail():
        with Terminal().bar("reading", 10, "rows") as bar:
            bar.advance(4)
            raise PluginError("no")

    with pytest.raises(PluginError):
        fail()
    assert capsys.readouterr().err.startswith("reading: 4/10 rows")


def test_bars_can_be_nested(capsys):
    terminal = Terminal()
    with terminal.bar("outer", 1) as outer:
        with terminal.bar("inner", 1) as inner:
            inner.advance()
        outer.advance()

    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "inner",
        "outer",
    ]


def test_a_bar_without_work_is_complete(capsys):
    with Terminal().bar("reading", 0, "rows"):
        pass

    assert capsys.readouterr().err == "reading: 0/0 rows\n"


def test_a_bar_without_a_total_says_how_much_is_done_and_since_when(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Terminal().bar("predicting", None, "rows", done=100) as bar:
        now[0] = 12
        bar.advance(1200)

    lines = capsys.readouterr().err.splitlines()
    assert lines == ["predicting: 1,300 rows  100/s  in 0:12"] * 2
    program = PROGRAM.replace("40, ", "None, ")
    last = [line for line in lines_of(on_a_terminal(program, 80)) if line.startswith("training")]
    assert re.search(r"━+ 40 steps  \d\d/s  in 0:0\d  loss 0\.0250", last[-1])


def test_every_problem_has_its_line(capsys):
    first = Problem(address="run.yaml:3", key="train.epoch", message="unknown key")
    Terminal().error(ConfigError([first, Problem(message="no data", remedy="name some")]))

    assert capsys.readouterr().err == (
        "error: run.yaml:3: train.epoch: unknown key\nerror: no data; name some\n"
    )


def test_json_is_one_line_of_utf8(capsys):
    Terminal().json({"text": "丢了", "score": 0.5})

    assert capsys.readouterr().out == '{"text": "丢了", "score": 0.5}\n'


def test_a_piped_table_is_as_wide_as_it_is(capsys):
    Terminal().table(("name", "text"), [("a", "word " * 60)], title="A title")

    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "A title"
    assert [len(line) for line in lines] == [10, 305, 305]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (75, "1:15"), (3725, "1:02:05")])
def test_duration(seconds, text):
    assert duration(seconds) == text
