"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 (a batch system's): a run or a sweep ends where it can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


def ending_signals() -> list[signal.Signals]:
    """What asks a process to end; not SIGHUP (the terminal was closed) where it is ignored, as under nohup."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    asked = [] if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN else [hangup]
    asked += [signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []
    return [signal.SIGTERM, *asked]


class Stop(threading.Event):
    """Set by the first signal, which is `signal`."""

    signal: int | None = None


@contextmanager
def sigterm_as_ctrl_c() -> Generator[None]:
    """While nothing of a run has begun, the signals above stop it as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = {number: signal.signal(number, stop) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def interruptions() -> Generator[Stop]:
    """An event that the signals above set; a second Ctrl-C raises `KeyboardInterrupt` at once."""
    event = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals reach the main thread only
        return

    def note(number: int, frame: FrameType | None) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not event.is_set():
            event.signal = number
        event.set()

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, *ending_signals())}
    try:
        yield event
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
