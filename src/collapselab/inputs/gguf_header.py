"""The header of a GGUF file: its entries and its tensors' shapes; each length is checked before anything is read.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from collapselab.errors import InputError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_WHOLE = "download the file again, and compare its size or sha256 with the source's"

Entry = int | float | bool | str


@dataclass(frozen=True)
class GgufHeader:
    """`entries` holds scalars and strings, not arrays; `tensors` holds the shapes by name."""

    entries: Mapping[str, Entry]
    tensors: Mapping[str, tuple[int, ...]]

    @property
    def num_elements(self) -> int:
        """The number of elements of all tensors together."""
        return sum(math.prod(shape) for shape in self.tensors.values())


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of a GGUF file.

    Raises:
        InputError: not a GGUF file, of an unknown version, or cut off in its header.
    """
    try:
        with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(path, content).header()
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {path}: {error}", _WHOLE) from error


class _Reader:
    """Reads forward through the file; anything that would reach past its end is refused."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content, self._at = path, content, 0

    def header(self) -> GgufHeader:
        if self._bytes(4) != b"GGUF":
            raise InputError(f"{self._path} is not a GGUF file: it does not begin with GGUF", _WHOLE)
        version = self._number("I")
        if version not in (2, 3):
            raise InputError(f"{self._path} has GGUF version {version}; only versions 2 and 3 are known", _WHOLE)
        num_tensors, num_entries = self._count("Q", 24), self._count("Q", 13)
        entries: dict[str, Entry] = {}
        for _ in range(num_entries):
            name, value = self._string(), self._value(self._number("I"))
            if value is not None:
                entries[name] = value
        tensors: dict[str, tuple[int, ...]] = {}
        for _ in range(num_tensors):
            name = self._string()
            tensors[name] = tuple(self._number("Q") for _ in range(self._count("I", 8)))
            self._number("I")  # type
            self._number("Q")  # offset
        return GgufHeader(entries, tensors)

    def _value(self, kind: int) -> Entry | None:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            self._skip_array()
            return None
        return self._number(self._scalar(kind))

    def _skip_array(self) -> None:
        kind = self._number("I")
        if kind == _STRING:
            for _ in range(self._count("Q", 8)):
                self._bytes(self._count("Q", 1))
        else:
            size = struct.calcsize(self._scalar(kind))
            self._bytes(size * self._count("Q", size))

    def _scalar(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise InputError(f"{self._path} has an entry of unknown type {kind} in its header", _WHOLE)
        return _SCALARS[kind]

    def _string(self) -> str:
        return self._bytes(self._count("Q", 1)).decode("utf-8", errors="replace")

    def _count(self, code: str, smallest: int) -> int:
        """A count of items, each at least `smallest` bytes long."""
        count = self._number(code)
        if count * smallest > len(self._content) - self._at:
            raise self._cut_off()
        return count

    def _number(self, code: str) -> int:
        return struct.unpack(f"<{code}", self._bytes(struct.calcsize(code)))[0]

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._content):
            raise self._cut_off()
        part, self._at = self._content[self._at : end], end
        return part

    def _cut_off(self) -> InputError:
        size = len(self._content)
        return InputError(f"{self._path} is cut off or damaged: its header reaches past its {size:,} bytes", _WHOLE)
