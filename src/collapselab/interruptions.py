"""Ctrl-C, SIGTERM and SIGHUP: a run or a sweep ends where it can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


def _ending_signals() -> list[signal.Signals]:
    """What asks a process to end; not SIGHUP (the terminal was closed) where it is ignored, as under nohup."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    is_ignored = hangup is None or signal.getsignal(hangup) is signal.SIG_IGN
    return [signal.SIGTERM] if is_ignored else [signal.SIGTERM, signal.SIGHUP]


@contextmanager
def sigterm_as_ctrl_c() -> Generator[None]:
    """While nothing of a run has begun, SIGTERM and SIGHUP stop it as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = {number: signal.signal(number, stop) for number in _ending_signals()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def interruptions() -> Generator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP set; a second Ctrl-C raises `KeyboardInterrupt` at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals reach the main thread only
        return

    def note(number: int, frame: FrameType | None) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, *_ending_signals())}
    try:
        yield event
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
