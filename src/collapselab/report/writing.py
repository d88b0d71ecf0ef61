"""How files of a report reach the disk: whole or not at all, and the former one stays until then."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from collapselab.errors import InputError, RunFailed
from collapselab.files import replace_file


def write_file(path: Path, content: str | bytes) -> None:
    """Replaces a file once its content is on the disk; where a link stands, the file that it leads to.

    Raises:
        InputError: something else than a file stands there (/dev/stdout, a folder).
        OSError: the disk is full, say; the former file stays.
    """
    place = path.resolve()
    if place.exists() and not place.is_file():
        raise InputError(f"{path} is not a regular file", "name a file that may be made or replaced")
    replace_file(place, content)


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turns an error of the disk into a `RunFailed` that says what to do."""
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"cannot write {path}: {error.strerror or error}",
            "what was there before is kept; make room, or choose another place, and repeat the command",
        ) from error
