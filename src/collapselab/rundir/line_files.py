"""JSON lines files: appended one line at a time, cut back on resume, and compared with what was written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from collapselab.errors import InputError
from collapselab.files import hold, open_regular, read_regular, replace_file, write_all
from collapselab.records import dumps, loads
from collapselab.rundir.migration import migrated

_BLOCK = 65_536


class LineFile:
    """A JSON lines file that grows, held by this process; line count and checksum need no second reading."""

    def __init__(self, path: Path, num_lines: int, *, is_renewed: bool = False) -> None:
        """Continues after the first `num_lines` lines: later lines, and an unfinished one, are cut off.

        `is_renewed`: in a new file of that name, which is not the one that a former owner may have open.

        Raises:
            OSError: it cannot be opened; `BlockingIOError`: another process holds it.
        """
        self.path = path
        if is_renewed and path.exists():
            replace_file(path, b"".join(_whole_lines(read_regular(path))[:num_lines]))
        self._handle = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            if os.name == "posix":  # elsewhere `lock` cannot be removed while it is held, and a lock keeps readers out
                hold(self._handle)
            lines = _whole_lines(read_regular(path))[:num_lines]
            os.ftruncate(self._handle, sum(map(len, lines)))
        except OSError:
            os.close(self._handle)
            raise
        self._num_lines, self._sha256 = len(lines), hashlib.sha256(b"".join(lines))

    def append(self, line: Mapping[str, object]) -> None:
        """Writes one line with its newline; on a full disk part of it may remain."""
        data = (dumps(line) + "\n").encode(errors="backslashreplace")
        write_all(self._handle, data)
        self._num_lines += 1
        self._sha256.update(data)

    def extent(self) -> dict[str, object]:
        """The extent of the file: the number of its lines and their SHA-256."""
        return {"lines": self._num_lines, "sha256": self._sha256.hexdigest()}

    def is_in_place(self) -> bool:
        """Whether the open file is still the one with that name."""
        try:
            return os.path.samestat(os.fstat(self._handle), self.path.stat())
        except FileNotFoundError:
            return False

    def sync(self) -> None:
        """Waits until the lines are on the disk."""
        os.fsync(self._handle)

    def close(self) -> None:
        os.close(self._handle)


def check_extent(path: Path, extent: object) -> None:
    """Compares the beginning of a file with the `extent` that was noted when it was written.

    Raises:
        InputError: lines are missing or have changed; the message says where.
    """
    noted = cast(dict[str, object], extent) if isinstance(extent, dict) else {}
    num_lines = noted.get("lines")
    if not isinstance(num_lines, int) or num_lines < 0:
        raise InputError(f"the number of lines of {path.name} was not recorded")
    lines = _whole_lines(_bytes(path) if num_lines else b"")[:num_lines]
    if len(lines) < num_lines:
        raise InputError(f"{path} has lost lines: {num_lines} were written, {len(lines)} remain")
    if hashlib.sha256(b"".join(lines)).hexdigest() != noted.get("sha256"):
        raise InputError(f"{path} has changed within its first {num_lines} lines since they were written")


def iterate_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON lines file in order, in the names of this version; an unterminated last line is dropped.

    Raises:
        InputError: a terminated line is no JSON object, or the file cannot be read.
    """
    if not path.exists():
        return
    for number, line in enumerate(_whole_lines(_bytes(path)), 1):
        try:
            value = loads(line.decode())
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise damaged_line(path, number, "not JSON" if value is None else "no JSON object")
        yield migrated(cast(dict[str, Any], value))


def some_lines(path: Path, at_most: int) -> list[dict[str, Any]]:
    """Objects of a JSON lines file that may be long and still grow: at most so many, evenly spread, and the last one.

    Reads only those lines. Lines that are no JSON objects are left out, and so is an unterminated last line.

    Raises:
        OSError: there is no such file, or it is not regular.
    """
    found: dict[int, dict[str, Any]] = {}
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        end = file.seek(_start_of_last_line(file, size))
        for place in [*(end * i // max(1, at_most - 1) for i in range(at_most - 1)), end]:
            file.seek(max(0, place - 1))
            if place:
                file.readline()  # the rest of the line before
            start, line = file.tell(), file.readline()
            if start not in found and line.endswith(b"\n") and (value := _object(line)) is not None:
                found[start] = value
    return [found[start] for start in sorted(found)]


def _start_of_last_line(file: BinaryIO, size: int) -> int:
    """Where the last line begins that has its newline."""
    block, end = b"", size
    while end > 0 and block.count(b"\n") < 2:
        start = max(0, end - _BLOCK)
        file.seek(start)
        block, end = file.read(end - start) + block, start
    whole = block[: block.rfind(b"\n")] if b"\n" in block else b""
    return end + whole.rfind(b"\n") + 1


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return migrated(cast(dict[str, Any], value)) if isinstance(value, dict) else None


def damaged_line(path: Path, number: int, reason: str) -> InputError:
    """The error for a damaged line."""
    return InputError(
        f"{path}, line {number}: {reason}",
        "the file was damaged: restore it from a copy, or resume the run from before the damage with `resume=True`",
    )


def _bytes(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "is this a run directory of collapselab?") from None


def _whole_lines(data: bytes) -> list[bytes]:
    """The complete lines, with their newlines."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]
