"""Rows of whatever people keep generated text in, one after the other: memory does not grow with the file.

JSON lines, JSON arrays, CSV, Parquet, Arrow (data sets saved by `datasets`), plain text, folders of these, standard
input; all but Parquet and Arrow also packed by gzip or Zstandard. `corpus_forms` reads each form.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from collapselab.errors import InputError
from collapselab.inputs.corpus_forms import PEEK_BYTES, READERS, form_of
from collapselab.inputs.corpus_rows import Row
from collapselab.inputs.text_files import split_field
from collapselab.visible import visible

FORMS = "JSON lines, JSON, CSV, Parquet, Arrow or text files, packed or not, or folders of them"
# Beside the data in a folder: what `datasets` and the hub write about it, and notes.
_NOT_DATA = re.compile(
    r"^(\.|_|cache-|dataset_infos?\.json|dataset_dict\.json|state\.json|readme|license|config\.json)", re.IGNORECASE
)
_SUFFIXES = re.compile(r"\.(jsonl|ndjson|json|csv|tsv|parquet|arrow|txt|text|md)(\.gz|\.zst)?$", re.IGNORECASE)


@dataclass
class Corpus:
    """The files of an audit, and how far they have been read.

    `files`: path and field of each (`None`: found by itself). `total_bytes`: of all files; `None` for a pipe.
    """

    files: list[tuple[Path, str | None]]
    total_bytes: int | None
    is_many: bool
    _done: int = 0
    _raw: BinaryIO | None = field(default=None, repr=False)

    @classmethod
    def of(cls, specs: Sequence[str]) -> Corpus:
        """The files that paths name: a file, `FILE.jsonl:FIELD`, a folder with all its files, or `-`.

        Raises:
            InputError: there is no such file, or no file with text in a folder.
        """
        files: list[tuple[Path, str | None]] = []
        for spec in specs:
            path, field_name = split_field(spec)
            files += [(file, field_name) for file in _files_of(path)]
        sizes = [_size(path) for path, _ in files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        return cls(files, total, len(files) > 1)

    def rows(self) -> Iterator[Row]:
        """All rows, in order; a file of a folder that cannot be read is one row with an error.

        Raises:
            InputError: a single file cannot be read.
        """
        for path, field_name in self.files:
            name = path.name if self.is_many else ""
            try:
                for row in self._rows_of(path):
                    yield row.of_file(name, field_name)
            except InputError as error:
                if not self.is_many:
                    raise
                yield Row("", None, error.message).of_file(name, field_name)
            self._done += _size(path) or 0
            self._raw = None

    @property
    def done_bytes(self) -> int:
        """How much of the files has been read."""
        try:
            return self._done + (self._raw.tell() if self._raw is not None else 0)
        except (OSError, ValueError):  # a pipe, or closed
            return self._done

    def _rows_of(self, path: Path) -> Iterator[Row]:
        with _opened(path) as raw:
            self._raw = raw
            buffered = cast(Any, io.BufferedReader(cast(Any, raw), 1 << 20))
            try:
                stream = _unpacked(path, buffered)
                start = stream.peek(PEEK_BYTES)[:PEEK_BYTES]
                form = form_of(path.name if str(path) != "-" else "", start)
                yield from READERS[form](str(path), stream)
            except (OSError, EOFError) as error:
                raise InputError(f"{path} is damaged: {error}", "pack or download it again") from None
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path} is not {error.encoding.upper()}: {error.reason}", "convert it to UTF-8"
                ) from None


def _files_of(path: Path) -> list[Path]:
    if str(path) == "-":
        return [path]
    try:
        str(path).encode()
        mode = os.stat(path).st_mode
    except UnicodeEncodeError:
        raise InputError(f"the file name {visible(str(path))} is not UTF-8", "rename the file") from None
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", f"a corpus is {FORMS}") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        raise InputError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', error)}", FORMS) from None
    if not stat.S_ISDIR(mode):
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if _SUFFIXES.search(file.name)
        and not any(_NOT_DATA.match(part) for part in file.relative_to(path).parts)
        and file.is_file()
    )
    if not found:
        raise InputError(f"the folder {path} has no file of text", f"it may hold {FORMS}")
    return found


def _size(path: Path) -> int | None:
    if str(path) == "-":
        return None
    status = path.stat()
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _opened(path: Path) -> io.FileIO:
    try:
        # A copy of the descriptor: closing it leaves standard input open.
        return io.FileIO(os.dup(sys.stdin.fileno()) if str(path) == "-" else path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', error)}", FORMS) from None


def _unpacked(path: Path, stream: io.BufferedReader) -> io.BufferedReader:
    start = stream.peek(4)[:4]
    if start[:2] == b"\x1f\x8b":
        return io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=stream)), 1 << 20)
    if start == b"\x28\xb5\x2f\xfd":
        try:
            import zstandard
        except ImportError:
            raise InputError(
                f"{path} is packed by Zstandard, and zstandard is not installed", "pip install zstandard"
            ) from None
        return io.BufferedReader(_Zstandard(stream, zstandard.ZstdDecompressor().decompressobj), 1 << 20)
    return stream


class _Zstandard(io.RawIOBase):
    """The content of Zstandard frames; unlike the library's own reader it says so if the last one is cut off."""

    def __init__(self, stream: io.BufferedReader, new_frame: Callable[[], Any]) -> None:
        self._stream, self._new_frame = stream, new_frame
        self._frame: Any = None
        self._packed, self._content = b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        import zstandard

        while not self._content:
            self._packed = self._packed or self._stream.read(1 << 17)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("its last Zstandard frame is cut off")
                return 0
            self._frame = self._frame or self._new_frame()
            try:
                self._content = self._frame.decompress(self._packed)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from None
            self._packed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        count = min(len(buffer), len(self._content))
        buffer[:count], self._content = self._content[:count], self._content[count:]
        return count
