"""A signal ends a run at once before training, after the step in training; nothing is lost."""

from __future__ import annotations

import signal
import threading

import pytest

from nlpkit.errors import Interrupted
from nlpkit.signals import SIGNALS, Stop, interruptible


class SavedError(Exception):
    """What a trainer raises that was asked to stop."""


@pytest.fixture(autouse=True)
def _as_found():
    found = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in found.items():
        signal.signal(number, handler)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


def prepare(*signals: int) -> None:
    """What comes before training, while these signals arrive."""
    with interruptible():
        for number in signals:
            signal.raise_signal(number)


def train(*signals: int, seen: list[int | None]) -> None:
    """Trains while these signals arrive, then answers them."""
    with interruptible() as stop, stop.deferred():
        for number in signals:
            signal.raise_signal(number)
            seen.append(stop.signal)
        if stop():
            raise SavedError


def finish(*signals: int, seen: list[str]) -> None:
    """Finishes training before these signals arrive."""
    with interruptible() as stop:
        with stop.deferred():
            seen.append("trained")
        for number in signals:
            signal.raise_signal(number)
        seen.append("done")


@pytest.mark.parametrize("number", SIGNALS)
def test_before_training_a_signal_ends_the_run_at_once(number):
    with pytest.raises(Interrupted, match=f"{number.name} before training; nothing") as caught:
        prepare(number)
    assert caught.value.signal == number
    assert caught.value.run is None


@pytest.mark.parametrize("number", SIGNALS)
def test_in_training_a_signal_only_says_that_it_came(number):
    seen = []
    with pytest.raises(SavedError):
        train(number, seen=seen)
    assert seen == [number]
    train(seen=[])


def test_handlers_are_put_back_exactly_as_they_were():
    signal.signal(signal.SIGTERM, lambda number, frame: pytest.fail("it is not ours to call"))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = handlers()
    with interruptible() as stop, stop.deferred():
        assert handlers() == [stop.handle] * len(SIGNALS)
    assert handlers() == before
    with pytest.raises(Interrupted):
        prepare(signal.SIGTERM)
    assert handlers() == before


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_is_ignored_at_the_start_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    seen = []
    prepare(number)
    train(number, seen=seen)
    assert seen == [None]
    assert signal.getsignal(number) == signal.SIG_IGN


def test_the_second_ctrl_c_is_a_keyboard_interrupt():
    seen = []
    with pytest.raises(KeyboardInterrupt):
        train(signal.SIGINT, signal.SIGINT, seen=seen)
    assert seen == [signal.SIGINT]


def test_the_second_sigterm_is_the_programs_own():
    calls = []
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    with pytest.raises(SavedError):
        train(signal.SIGTERM, signal.SIGTERM, seen=[])
    assert calls == [signal.SIGTERM]


def test_a_closing_terminal_may_say_so_twice_and_logind_adds_sigterm():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    seen = []
    with pytest.raises(SavedError):
        train(signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, seen=seen)
    assert seen == [signal.SIGHUP] * 4


def test_a_signal_that_came_too_late_to_be_answered_does_what_it_did_before():
    seen = []
    with pytest.raises(KeyboardInterrupt):
        finish(signal.SIGINT, seen=seen)
    assert seen == ["trained", "done"]


def test_training_does_not_begin_once_a_signal_has_come():
    stop = Stop()
    stop.handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted) as caught:
        stop.deferred()
    assert caught.value.signal == signal.SIGTERM


def test_off_the_main_thread_nothing_is_installed():
    before, seen = handlers(), []

    def elsewhere():
        with interruptible() as stop, stop.deferred():
            seen.extend([*handlers(), stop()])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [*before, False]
