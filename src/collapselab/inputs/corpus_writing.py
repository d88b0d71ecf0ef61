"""Rows of a corpus sorted into two JSON lines files: healthy ones, and degenerate ones."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from collapselab.errors import InputError
from collapselab.inputs.corpus_rows import Row
from collapselab.inputs.text_fields import Content


class RowSorter:
    """Writes each row once all its texts are judged: to `drop` if one of them is degenerate, else to `keep`.

    The files get their names when the audit ends; if it fails, former files of these names stay. `num_rows`: healthy
    and degenerate ones so far, whether written or not.

    Raises:
        InputError: a file cannot be written, or is one of the inputs.
    """

    def __init__(self, keep: Path | None, drop: Path | None, inputs: Sequence[str]) -> None:
        self._paths = (keep, drop)
        self.num_rows = [0, 0]
        if keep is not None and keep == drop:
            raise InputError(f"--keep and --drop need two files, received {keep} for both", "name another one")
        for path in self._paths:
            if path is not None and any(os.path.exists(i) and path.resolve() == Path(i).resolve() for i in inputs):
                raise InputError(f"{path} is one of the files to be read", "name another file")
        self._files: list[IO[str] | None] = []
        self._row: Row | None = None
        self._content: Content = ""
        self._is_degenerate = False

    def __enter__(self) -> Self:
        for path in self._paths:
            try:
                self._files.append(_part(path).open("w", encoding="utf-8") if path else None)
            except OSError as error:
                raise InputError(
                    f"cannot write {path}: {error.strerror}", "name a file in a folder that exists"
                ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write()
        for file, path in zip(self._files, self._paths, strict=True):
            if file is None or path is None:
                continue
            file.close()
            if kind is None:
                _part(path).replace(path)
            else:
                _part(path).unlink()

    def add(self, row: Row, content: Content, is_degenerate: bool) -> None:
        """One more judged text of a row; texts of one row come one after the other."""
        if row is not self._row or row.is_prose:
            self._write()
            self._row, self._content, self._is_degenerate = row, content, False
        self._is_degenerate = self._is_degenerate or is_degenerate

    def _write(self) -> None:
        if self._row is None:
            return
        self.num_rows[self._is_degenerate] += 1
        file = self._files[self._is_degenerate]
        if file is None:
            return
        record = {"text": self._content} if self._row.is_prose else self._row.record
        if not isinstance(record, (Mapping, list)):
            record = {"text": record}
        file.write(json.dumps(cast(object, record), ensure_ascii=False, default=str) + "\n")


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")
