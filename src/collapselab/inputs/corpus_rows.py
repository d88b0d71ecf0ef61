"""A row of a corpus, and the characters of a stream of bytes."""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

MARKS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


@dataclass(frozen=True)
class Row:
    """One row of a corpus: where it stands, and its record or the reason why it has none.

    `is_prose`: the record is a stretch of a plain text, to be cut into windows.
    """

    place: str
    record: Any
    error: str | None = None
    is_prose: bool = False
    file: str = ""
    field: str | None = None

    def of_file(self, file: str, field: str | None) -> Row:
        """The same row, of a named file and with the field that the user named."""
        return replace(self, file=file, field=field)

    @property
    def full_place(self) -> str:
        return ", ".join(part for part in (self.file, self.place) if part)


def encoding_of(start: bytes) -> str:
    """The encoding that a byte-order mark names, else UTF-8."""
    return next((encoding for mark, encoding in MARKS.items() if start.startswith(mark)), "utf-8")


def as_text(stream: BinaryIO) -> io.TextIOWrapper:
    """The characters of a stream that can be peeked into; line ends as they are."""
    start = cast(Any, stream).peek(4)[:4]
    return io.TextIOWrapper(stream, encoding=encoding_of(start), newline="")
