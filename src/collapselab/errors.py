"""The errors a user can cause or meet; the command line turns each into one message and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable
from contextlib import contextmanager

EXIT_DONE, EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 75


class CollapselabError(Exception):
    """Base of this package's errors: a message (rule and received value) and a hint (what to do)."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\nhint: {hint}")
        self.message, self.hint = message, hint


class InputError(CollapselabError, ValueError):
    """What the user gave cannot be used."""

    exit_code = EXIT_INPUT


class RunFailed(CollapselabError):
    """The run cannot continue, for a reason other than its input (for example, a full disk); written files stay."""


class Interrupted(CollapselabError):
    """The run was asked to stop, by a signal or its wall time, and can be resumed."""

    exit_code = EXIT_INTERRUPTED

    def __init__(self, message: str, hint: str | None = None, signal: int | None = None) -> None:
        super().__init__(message, hint)
        self.signal = signal


# What the system and torch say where memory or threads are short.
_SHORTAGES = ("cannot allocate memory", "can't allocate memory", "start new thread")


def is_shortage(error: BaseException) -> bool:
    """Whether an error of any library says that memory or threads are short."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _SHORTAGES)


@contextmanager
def doing(what: str) -> Generator[None]:
    """Notes what an unforeseen error ended, for the message of the command line; of several, the innermost counts."""
    try:
        yield
    except CollapselabError:
        raise
    except Exception as error:
        error.add_note(what)
        raise


def nearest(received: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known name, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(received, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(names)
