"""`nlpkit train` and `nlpkit demo`: what came out, where it is, and what to do next."""

from __future__ import annotations

import json
import re
import shlex
from textwrap import dedent

import pytest

from nlpkit.cli.main import main

CONFIG = """
name: small
task: sequence
data: sample
tokenizer: {name: wordpiece, vocab_size: 300, max_length: 16}
model: {name: transformer, layers: 1, hidden: 16, heads: 2}
train: {max_steps: 3}
loader: {workers: 0}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NLPKIT_RUNS")
    (tmp_path / "small.yaml").write_text(CONFIG)
    return "small.yaml"


def test_train_ends_with_metrics_places_and_next_commands(config, capsys):
    assert main(["train", config, "train.max_steps=2", "observers=[progress]"]) == 0

    out, err = capsys.readouterr()
    assert re.search(r"^ +validation +test$", out, re.MULTILINE)
    assert re.search(r"^accuracy +\d\.\d{4}  \d\.\d{4}$", out, re.MULTILINE)
    assert re.search(r"^steps +2 of 2, skipped 0; the best model is of step 2$", out, re.MULTILINE)
    assert re.search(r"^bundle +runs/small/bundle$", out, re.MULTILINE)
    assert "nlpkit predict runs/small" in out
    assert re.search(r"^training on .*: 2/2 steps", err, re.MULTILINE)


def test_windows_are_reported_beside_what_is_truncated(config, tmp_path, capsys):
    assert main(["train", config, "train.max_steps=1", "task.long_text=window"]) == 0
    out, _ = capsys.readouterr()
    report = json.loads((tmp_path / "runs" / "small" / "result.json").read_text())["data"]
    windows, several = report["windows"]["train"], report["windowed"]["train"]
    assert 1 < windows < 3
    line = rf"^windows +{windows:.2f} a training row; {several:.1%} have more than one$"
    assert re.search(line, out, re.MULTILINE)
    assert "truncated texts 0.0%" in out


def test_the_run_folder_can_be_named_and_is_never_overwritten(config, tmp_path, capsys):
    assert main(["train", config, "--out", "here"]) == 0
    assert json.loads((tmp_path / "here" / "result.json").read_text())["steps"] == 3

    assert main(["train", config, "--out", "here"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: here: there is a run")


def test_a_bad_config_is_told_line_by_line_and_leaves_nothing(config, tmp_path, capsys):
    (tmp_path / config).write_text(CONFIG + "trian: {}\nseed: no\n")

    assert main(["train", config]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: small.yaml:") for line in lines)
    assert not (tmp_path / "runs").exists()


def test_a_slow_observer_is_named_with_its_share_of_the_time(config, tmp_path, capsys):
    source = """
        import time
        import nlpkit
        from nlpkit.contracts import Observer

        @nlpkit.hookimpl
        def nlpkit_observers():
            yield nlpkit.ObserverRecord(name="sleepy", target="sleepy_observer:build")

        class Sleepy(Observer):
            def run_started(self, event):
                time.sleep(0.5)

        def build(options, terminal):
            return Sleepy()
        """
    (tmp_path / "sleepy_observer.py").write_text(dedent(source))
    overrides = ["plugins=[./sleepy_observer.py]", "observers=[sleepy, progress]"]

    assert main(["train", config, "train.max_steps=1", *overrides]) == 0
    err = capsys.readouterr().err
    assert re.search(r'^warning: observer "sleepy" took \d+\.\d% of the time$', err, re.MULTILINE)
    assert 'observer "progress"' not in err


def test_a_run_that_is_interrupted_says_how_to_go_on_as_it_was_called(config, tmp_path, capsys):
    source = """
        import os
        import signal
        import nlpkit
        from nlpkit.contracts import Observer

        @nlpkit.hookimpl
        def nlpkit_observers():
            yield nlpkit.ObserverRecord(name="quitter", target="quitter_observer:Quitter")

        class Quitter(Observer):
            def __init__(self, options, terminal):
                pass

            def step_ended(self, event):
                if event.step == 1:
                    os.kill(os.getpid(), signal.SIGINT)
        """
    (tmp_path / "quitter_observer.py").write_text(dedent(source))
    overrides = ["plugins=[./quitter_observer.py]", "observers=[quitter, progress]"]

    assert main(["train", config, *overrides, "--out", "here"]) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[-2].endswith("ended by SIGINT, and saved; --resume goes on:")
    step = f"  nlpkit train small.yaml {shlex.join(overrides)} --out here --resume"
    assert said[-1] == step
    assert main(shlex.split(said[-1])[1:]) == 0


@pytest.mark.slow
def test_the_demo_learns_the_sample_and_predicts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["demo", "--out", "here"]) == 0
    result = json.loads((tmp_path / "here" / "result.json").read_text())
    assert result["metrics"]["test"]["accuracy"] >= 0.9
    assert re.search(r"^The voucher .*  discount_code", capsys.readouterr().out, re.MULTILINE)
