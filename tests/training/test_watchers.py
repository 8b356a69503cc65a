from __future__ import annotations

import asyncio
import shutil
import sys
import time

import pytest
import torch

import nlpkit
from nlpkit.cli.render import Terminal
from nlpkit.contracts import Observer
from nlpkit.events import RunEnded, StepEnded
from nlpkit.run.session import Session
from nlpkit.training.watchers import Watchers
from tests.training.test_trainer import train

EVENT = RunEnded(result={})


class Broken(Observer):
    calls = 0

    def run_ended(self, event: RunEnded) -> None:
        self.calls += 1
        raise RuntimeError(("no disk left", "already closed", "already closed")[self.calls - 1])


class Ledger(Observer):
    calls = 0

    def run_ended(self, event: RunEnded) -> None:
        self.calls += 1
        time.sleep(0.01)


def test_an_observer_that_raises_is_isolated_disabled_after_three_failures_and_named():
    broken, ledger = Broken(), Ledger()
    watchers = Watchers([("broken", broken), ("ledger", ledger)])
    for _ in range(5):
        watchers.tell("run_ended", EVENT)
    assert (broken.calls, ledger.calls) == (3, 5)
    report = watchers.report(elapsed=1.0)
    assert report["broken"]["disabled"]
    assert report["broken"]["failures"] == 3
    assert report["broken"]["first_error"].startswith("run_ended: RuntimeError: no disk left (/")
    assert not report["ledger"]["disabled"]


class Panic(BaseException):
    pass


@pytest.mark.parametrize("raised", [asyncio.CancelledError, GeneratorExit, Panic, SystemExit])
def test_an_observer_may_raise_what_is_no_exception(raised):
    class Wild(Observer):
        def run_ended(self, event: RunEnded) -> None:
            raise raised

    watchers = Watchers([("wild", Wild())])
    watchers.tell("run_ended", EVENT)
    assert watchers.report(1.0)["wild"]["first_error"].startswith(f"run_ended: {raised.__name__} (")


def test_a_slow_observer_is_reported_with_its_share_of_the_time():
    watchers = Watchers([("ledger", Ledger())])
    for _ in range(5):
        watchers.tell("run_ended", EVENT)
    assert 0.5 <= watchers.report(elapsed=0.1)["ledger"]["share_of_time"] < 5


def from_the_beginning(run: nlpkit.Run) -> Session:
    shutil.rmtree(run.path / "checkpoints")
    return Session(run.path, terminal=Terminal())


def test_a_failure_at_the_end_of_a_run_is_in_its_report(tmp_path):
    run = train(tmp_path / "run", train={"epochs": 1})
    session = from_the_beginning(run)
    session.watchers = Watchers([("broken", Broken())])
    session.fit()
    assert run.result["observers"]["broken"]["failures"] == 1


def test_an_observer_that_fails_in_a_run_that_stops_is_named(tmp_path, capsys):
    session = from_the_beginning(train(tmp_path / "run", train={"epochs": 1}))
    session.watchers, session.stop = Watchers([("broken", Broken())]), lambda: True
    assert not session.fit()
    assert 'warning: observer "broken" failed: run_ended: Runtime' in capsys.readouterr().err


def test_an_observer_can_neither_leave_nor_switch_gradients_off(tmp_path):
    class Leaver(Observer):
        def step_ended(self, event: StepEnded) -> None:
            torch.set_grad_enabled(False)
            sys.exit(0)

    session = from_the_beginning(train(tmp_path / "run", train={"epochs": 1}))
    session.watchers = Watchers([("leaver", Leaver())])
    with torch.enable_grad():
        session.fit()
    assert session.watchers.report(1.0)["leaver"]["disabled"]


def test_an_observer_that_draws_random_numbers_changes_nothing(tmp_path):
    class Drawer(Observer):
        def step_ended(self, event: StepEnded) -> None:
            torch.rand(event.step)

    run = train(tmp_path / "run", train={"epochs": 1}, dropout=0.3)
    weights = (run.bundle / "model.safetensors").read_bytes()
    session = from_the_beginning(run)
    session.watchers = Watchers([("drawer", Drawer())])
    session.fit()
    assert (run.bundle / "model.safetensors").read_bytes() == weights
