"""Writes the files of a report completely or not at all; the existing file stays until the new one is complete."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from collapselab.errors import InputError, RunFailed
from collapselab.files import replace_file


def write_file(path: Path, content: str | bytes) -> None:
    """Replaces a file once its content is on the disk; for a link, the file it points to.

    Raises:
        InputError: it is not a regular file (/dev/stdout, a folder).
        OSError: for example, the disk is full; the existing file stays.
    """
    place = path.resolve()
    if place.exists() and not place.is_file():
        raise InputError(f"{path} is not a regular file", "name a file that can be created or replaced")
    replace_file(place, content)


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turns an error of the disk into a `RunFailed` that says what to do."""
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"cannot write {path}: {error.strerror or error}",
            "the existing file is kept; make room, or choose another place, and repeat the command",
        ) from error
