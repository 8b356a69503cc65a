"""Signals: before training they end a run at once, in training after the step, when it is saved.

A notebook's stop button is SIGINT, a scheduler's notice SIGTERM, a terminal that closes SIGHUP.
"""

from __future__ import annotations

import signal
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from nlpkit.errors import Interrupted

if TYPE_CHECKING:
    from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stop:
    """Whether a signal asked to stop; calling it says so.

    Attributes:
        signal: The number of the first signal that came; None before.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.before: dict[int, Any] = {}
        self.raises = False
        self._seen: set[int] = set()

    def __call__(self) -> bool:
        """Whether one came."""
        return self.signal is not None

    def deferred(self) -> AbstractContextManager[None]:
        """Surrounds what polls this and saves; here and from here on a signal raises nothing.

        Raises:
            Interrupted: A signal has come already.
        """
        if self.signal is not None:
            raise self._interrupted(self.signal)
        self.raises = False
        return nullcontext()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Takes a signal. One that comes again is meant: it does what it did before nlpkit."""
        if number in self._seen:
            if number != getattr(signal, "SIGHUP", None):  # shell and kernel both send it
                self._as_before(number, frame)
            return
        self._seen.add(number)
        self.signal = self.signal or number
        # Inside this file it is only noted: __exit__ must put back what it found.
        if self.raises and frame and frame.f_code.co_filename != __file__:
            self.raises = False
            raise self._interrupted(number)

    def _as_before(self, number: int, frame: FrameType | None) -> None:
        handler = self.before[number]
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, handler)
            signal.raise_signal(number)

    def _interrupted(self, number: int) -> Interrupted:
        name = signal.Signals(number).name
        return Interrupted(f"ended by {name} before training; nothing was learned", signal=number)


class interruptible:
    """Gives a `Stop` that SIGINT, SIGTERM and SIGHUP set, in the main thread only.

    Handlers are put back as they were. A signal that is ignored (SIGHUP under nohup) stays so. One
    that nobody answered with an exception does, at the end, what it did before.
    """

    def __init__(self) -> None:
        self._stop = Stop()

    def __enter__(self) -> Stop:
        stop = self._stop
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in SIGNALS}
            # None is a handler that Python did not set, and cannot put back.
            left = (signal.SIG_IGN, None)
            stop.before = {n: handler for n, handler in found.items() if handler not in left}
            for number in stop.before:
                signal.signal(number, stop.handle)
            stop.raises = True
        return stop

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stop = self._stop
        stop.raises = False
        for number, handler in stop.before.items():
            signal.signal(number, handler)
        if kind is None and stop.signal is not None:
            signal.raise_signal(stop.signal)
