"""Crash-safe files: only regular ones are opened, and new content is on the disk before it takes a file's name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from filelock import lock_descriptor

# Windows has none of the first two, and needs the third.
_OPEN = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


def open_regular(path: Path, flags: int) -> int:
    """A descriptor of a regular file, which may be new.

    Raises:
        OSError: it cannot be opened, or is not regular: opening a FIFO would block forever.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.open(path, flags | _OPEN, 0o666)


def read_regular(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `open_regular`.
    """
    with open(open_regular(path, os.O_RDONLY), "rb") as handle:
        return handle.read()


def hold(handle: int) -> None:
    """Takes the exclusive lock on an open file; it is released with the descriptor, and so with the process.

    The file must be open for writing: NFS, where flock locks bytes, refuses others.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file system has no locks.
    """
    if not lock_descriptor(handle, blocking=False):
        raise BlockingIOError(errno.EAGAIN, "another process holds it")


def write_all(handle: int, data: bytes) -> None:
    """Writes all of it; on a full disk the first write may be partial, and the second one raises the error."""
    while data:
        data = data[os.write(handle, data) :]


def replace_file(
    path: Path, content: str | bytes, *, durable: bool = True, check: Callable[[], None] = lambda: None
) -> None:
    """Replaces a file in one step: readers see the old one or the new one, also after a crash.

    `durable` waits until content and name are on the disk, which takes milliseconds. Text is written as UTF-8;
    parts of file names that are not UTF-8 become escapes that JSON reads back. `check` is called last, and may refuse.

    Raises:
        OSError: for example, the disk is full; the old file stays.
    """
    data = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        handle = open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(handle, data)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        check()
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders, and keeps names in a journal
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> list[Path]:
    """Creates a folder and its missing parents, synced to the disk; returns the created ones, innermost first."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        sync(folder.parent)
    return made


def remove_folder(path: Path) -> None:
    """Removes a folder (or file) completely or not at all: it is renamed first, so a crash leaves only `tmp-…`."""
    renamed = path.rename(path.with_name(temporary_name()))
    sync(path.parent)
    if renamed.is_dir():
        shutil.rmtree(renamed)
    else:
        renamed.unlink()


def temporary_name() -> str:
    """A new name for something incomplete or about to be removed; it begins with `tmp-`."""
    return f"tmp-{os.getpid()}-{time.monotonic_ns()}"
