"""Standard streams that end no command: closed, full, broken, or in an encoding that lacks a character."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from collapselab.errors import CollapselabError

# What libraries print past `visible`: everything that acts on a terminal, except the sequences that Rich uses.
_ACTING = re.compile(
    r"\x1b(?!\[[\d;?]*[A-Za-z])|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


class OutputError(CollapselabError):
    """Standard output is full, or its reader has gone (then there is nobody to tell)."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror}", "choose another place for the output")
        self.is_broken_pipe = error.errno == errno.EPIPE


class Stream:
    """A text stream that replaces what cannot be encoded; after a failure nothing more is written.

    A failure of standard output is an `OutputError`; messages and progress that cannot be shown are given up silently.
    """

    def __init__(self, stream: TextIO, *, is_output: bool) -> None:
        self._stream, self._is_output, self._is_lost = stream, is_output, False

    def write(self, text: str) -> int:
        """Writes what the stream can show of the text."""
        encoding = self._stream.encoding or "utf-8"
        shown = _ACTING.sub("\N{REPLACEMENT CHARACTER}", text).encode(encoding, "replace").decode(encoding)
        if not self._is_lost:
            try:
                self._stream.write(shown)
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Hands on what was written."""
        if not self._is_lost:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        self._is_lost = True
        # What is left in the buffer goes nowhere, or the interpreter would fail once more at its end.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)
        if self._is_output:
            raise OutputError(error) from None


@contextmanager
def safe_streams() -> Generator[None]:
    """Standard output and error as `Stream`, both leading nowhere if they are closed."""
    _fill_closed_descriptors()
    former = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as null:
        streams = (cast("TextIO | None", stream) or null for stream in former)
        output, messages = (Stream(s, is_output=first) for s, first in zip(streams, (True, False), strict=True))
        sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, messages)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = former


def _fill_closed_descriptors() -> None:
    """Keeps the run's own files from becoming standard output, where libraries might write into them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
