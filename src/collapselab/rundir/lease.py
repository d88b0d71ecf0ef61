"""A lease: one owner of a run directory, also where locks of other machines are not seen (a shared file system).

The lock on `lock` decides between processes of one machine. Some shared file systems keep locks to themselves, so the
owner also has a file `lease.<n>`, in which it counts every `BEAT_S` seconds. The highest n is the owner. Whoever wants
to follow a dead owner makes `lease.<n+1>`, which only one process can (O_EXCL, atomic on NFS too). An owner of another
machine is dead if its file did not change for `LEASE_S` seconds *on the clock of the one who waits*; no two clocks are
compared. An owner that was only stopped (SIGSTOP, a frozen machine) finds the higher file before it writes again,
and what it had begun to write ends in files that have no name any more (`RecordWriter`, `renewed`).

Reference: C. Gray and D. Cheriton, "Leases", SOSP 1989; M. Kleppmann, "How to do distributed locking", 2016 (fencing).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from collapselab.errors import RunFailed
from collapselab.files import open_regular, read_regular, write_all
from collapselab.records import dumps, loads
from collapselab.rundir.machine import boot_id

BEAT_S = 10.0
LEASE_S = 120.0  # twice the longest time (60 s) for which NFS shows old directories and attributes by default
EMPTY_S = 1.0  # for a file whose maker was killed before it wrote into it
POLL_S = 0.2
_NAME = re.compile(r"lease\.(\d+)")
_log = logging.getLogger(__name__)


class Superseded(RunFailed):
    """Another process has taken over the run."""


@dataclass(frozen=True)
class Holder:
    """What a lease file says: who has the directory. `content` is all of it, to see whether it changes."""

    number: int
    content: bytes
    values: dict[str, Any]

    @property
    def is_released(self) -> bool:
        return self.values.get("released") is True

    @property
    def who(self) -> str:
        return f"process {self.values.get('pid', 'unknown')} on {self.values.get('host', 'unknown')}"

    def is_of(self, machine: str) -> bool:
        """Whether it is of this machine, where the lock alone says whether it lives."""
        return self.values.get("machine") == machine

    @property
    def lease_s(self) -> float:
        """How long it may be silent."""
        value: object = self.values.get("lease_s")
        return float(value) if isinstance(value, (int, float)) else EMPTY_S


def is_lease(name: str) -> bool:
    """Whether a file of this name in a run directory is a lease."""
    return _NAME.fullmatch(name) is not None


def current(path: Path) -> Holder | None:
    """The last lease of a run directory; None: there was none.

    Raises:
        OSError: the directory cannot be read.
    """
    numbers = [int(found[1]) for name in os.listdir(path) if (found := _NAME.fullmatch(name))]
    if not numbers:
        return None
    try:
        content = read_regular(path / f"lease.{max(numbers)}")
    except OSError:  # replaced just now
        content = b""
    try:
        values: object = loads(content.decode())
    except ValueError:
        values = None
    return Holder(max(numbers), content, cast(dict[str, Any], values) if isinstance(values, dict) else {})


def machine(path: Path) -> str:
    """This machine as far as locks reach: the running system, and the mount of the directory."""
    return f"{boot_id()} {path.stat().st_dev}"


class Watch:
    """Sees, from outside, which owners on other machines are silent."""

    def __init__(self) -> None:
        self._since: dict[Path, tuple[bytes, float]] = {}

    def owner(self, path: Path) -> Holder | None:
        """The living owner on another machine; None: there is none, or it has been silent for its lease."""
        try:
            holder = current(path)
            if holder is None or holder.is_released or holder.is_of(machine(path)):
                return None
        except OSError:
            return None
        content, since = self._since.get(path, (None, 0.0))
        if content != holder.content:
            self._since[path] = (holder.content, since := time.monotonic())
        return holder if time.monotonic() - since < holder.lease_s else None


@dataclass
class Lease:
    """The directory belongs to this process until the end of the `with` block.

    `renewed`: the former owner, on another machine, did not end; it may still have open files, so that records go to
    new ones.
    """

    path: Path
    number: int
    renewed: bool
    _token: str = field(default_factory=lambda: secrets.token_hex(8))
    _beats: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def take(cls, path: Path) -> Self:
        """Takes the directory, whose lock this process holds; waits while the owner may be alive on another machine.

        Raises:
            BlockingIOError: another process has it.
            OSError: the file cannot be made.
        """
        former = _outwaited(path)
        lease = cls(path, 1 if former is None else former.number + 1, _is_unfinished(former, path))
        try:
            handle = open_regular(lease.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            raise BlockingIOError from None
        with os.fdopen(handle, "wb") as file:
            file.write(lease._content())
        if (last := current(path)) is None or last.number != lease.number:
            raise BlockingIOError  # somebody took the file for one without an owner, before it was written
        for name in os.listdir(path):
            if (found := _NAME.fullmatch(name)) and int(found[1]) < lease.number:
                (path / name).unlink(missing_ok=True)
        return lease

    @property
    def file(self) -> Path:
        return self.path / f"lease.{self.number}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep, name="lease", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with self._writing, contextlib.suppress(OSError, Superseded):
            self.check()
            self._write(released=True)

    def check(self) -> None:
        """Checks that this process is still the owner; called before anything is written.

        Raises:
            Superseded: another process is.
        """
        try:
            last = current(self.path)
        except OSError:
            return  # the directory is gone: the run finds that out by itself
        if last is None or (last.number == self.number and last.values.get("token", self._token) == self._token):
            return  # None: somebody removed the file
        raise Superseded(
            f"{self.path} was taken over by {last.who}, since this process was silent for {LEASE_S:.0f} s or more",
            "nothing is lost: the run continues there, from its last checkpoint",
        )

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_S):
            # A full disk or a silent server: the next beat may get through.
            with self._writing, contextlib.suppress(OSError):
                if not self._ended.is_set():
                    self._beats += 1
                    self._write()

    def _write(self, *, released: bool = False) -> None:
        """Writes the file in place: never a new one, so that a removed one stays removed."""
        handle = open_regular(self.file, os.O_WRONLY)
        try:
            write_all(handle, self._content(released=released))
        finally:
            os.close(handle)  # on NFS, others see it from here on

    def _content(self, *, released: bool = False) -> bytes:
        """One line, always of the same length."""
        values = {
            "beats": f"{self._beats:012d}",
            "released": released,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "machine": machine(self.path),
            "lease_s": LEASE_S,
            "token": self._token,
        }
        return (dumps(values) + ("\n" if not released else " \n")).encode()


def _is_unfinished(former: Holder | None, path: Path) -> bool:
    return former is not None and not former.is_released and not former.is_of(machine(path))


def _outwaited(path: Path) -> Holder | None:
    """The last lease, once its owner has ended, or has been silent for its lease.

    Raises:
        BlockingIOError: it lives.
    """
    first = current(path)
    if not _is_unfinished(first, path):
        return first
    assert first is not None
    _log.warning(
        "%s was not released by %s: waiting up to %.0f s to see whether that lives", path, first.who, first.lease_s
    )
    deadline = time.monotonic() + first.lease_s
    while time.monotonic() < deadline:
        time.sleep(min(POLL_S, first.lease_s / 10))
        if (now := current(path)) is not None and now.content != first.content:
            if now.number == first.number and now.is_released:
                return now
            raise BlockingIOError
    return first
