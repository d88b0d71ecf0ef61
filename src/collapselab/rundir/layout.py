"""The run directory: its files, who may write them, and how a record gets to the disk (docs/run-directory.md)."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

from collapselab.collapse.words import ROLES, Status
from collapselab.errors import InputError, RunFailed
from collapselab.files import hold, make_folder, open_regular, read_regular, replace_file
from collapselab.records import SCHEMA_VERSION, Record, Sample, are_token_ends, dumps, loads
from collapselab.rundir.lease import Lease, current, is_lease
from collapselab.rundir.line_files import damaged_line, iterate_lines
from collapselab.rundir.migration import READ_VERSIONS, migrated


class UnknownSchema(InputError):
    """A file of a version that this version does not read."""


class Vanished(RunFailed):
    """The run directory, or a file that is being written, is gone."""


@dataclass(frozen=True)
class RunDir:
    """The files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def user(self) -> Path:
        return self.path / "user.json"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def steps(self) -> Path:
        return self.path / "steps.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoint"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def holds_a_run(self) -> bool:
        """Whether config.json is that of a run; the name is not enough, since a saved model has one too."""
        try:
            content: object = loads(read_regular(self.config).decode())
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and {"run_id", "config"} <= cast(dict[str, object], content).keys()

    @contextmanager
    def lock(self) -> Generator[Lease]:
        """Holds the directory for this process, by a lock and a lease (`lease`).

        A directory in which nothing was written is left as it was found.

        Raises:
            InputError: a live process holds it, or it cannot be made.
        """
        path = self.path / "lock"
        try:
            made = make_folder(self.path)
            is_new = not path.exists()
            handle = self._hold(path)
        except BlockingIOError:
            raise self.in_use() from None
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be a run directory: {error.strerror} ({error.filename})",
                "choose another directory with `out=…`",
            ) from None
        try:
            with self._lease() as lease:
                yield lease
        finally:
            if is_new and self.path.is_dir() and not any(self._others()):
                with suppress(OSError):
                    for file in self.path.iterdir():
                        file.unlink()
                    for folder in made:
                        folder.rmdir()
            os.close(handle)

    def _others(self) -> Generator[Path]:
        """What is in the directory beside lock and lease."""
        yield from (file for file in self.path.iterdir() if file.name != "lock" and not is_lease(file.name))

    def _lease(self) -> Lease:
        try:
            lease = Lease.take(self.path)
        except BlockingIOError:
            raise self.in_use() from None
        except OSError as error:
            raise InputError(f"{self.path} cannot be a run directory: {error.strerror} ({error.filename})") from None
        if lease.renewed:  # what the former owner was about to rename: see `Lease`
            with disk_errors(self.path):
                for unfinished in (*self.path.glob("*.tmp"), *self.checkpoints.glob("tmp-*")):
                    shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
        return lease

    def _hold(self, path: Path) -> int:
        """The locked file `lock`, while no other process writes records; somebody may have removed its `lock`."""
        while True:
            handle = open_regular(path, os.O_RDWR | os.O_CREAT)
            try:
                hold(handle)
                if self.steps.exists():
                    with open(open_regular(self.steps, os.O_RDWR), "rb") as steps:
                        hold(steps.fileno())
            except OSError:
                os.close(handle)
                raise
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                return handle
            os.close(handle)  # removed by the process that held it

    def in_use(self) -> InputError:
        """The error for a directory in which another process writes."""
        return InputError(
            f"{self.path} is in use by {self.owner()}", "wait for it to end, or choose another directory with `out=…`"
        )

    def owner(self) -> str:
        """Who has the directory, as far as the files say."""
        with suppress(OSError):
            if (holder := current(self.path)) is not None and holder.values and not holder.is_released:
                return holder.who
        status = self.read_status()
        return f"process {status.get('pid', 'unknown')} on {status['host']}" if "host" in status else "another process"

    def write_status(self, status: Status, step: int | None, error: str | None = None) -> None:
        """Replaces status.json; the time in it is the run's heartbeat. Nothing depends on it: it is not synced."""
        content = {
            "schema": SCHEMA_VERSION,
            "status": status,
            "step": step,
            "heartbeat": time.time(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "error": error,
        }
        with disk_errors(self.path):
            replace_file(self.status, dumps(content, indent=1) + "\n", durable=False)

    def read_status(self) -> dict[str, Any]:
        """What status.json says; empty if it is missing or damaged, since a heartbeat may be unknown."""
        try:
            content = read_json(self.status)
        except InputError:
            return {}
        return content if isinstance(content.get("status"), str) else {}

    def read_records(self, num_records: int | None = None, num_samples: int | None = None) -> list[Record]:
        """The records in order: all of them, or the first `num_records` with their `num_samples` samples.

        Raises:
            InputError: a line is damaged, of another file, or out of order.
        """
        records: list[Record] = []
        samples = islice(iterate_lines(self.samples), num_samples)
        line, number = next(samples, None), 1
        for step, values in enumerate(islice(iterate_lines(self.steps), num_records)):
            if values.get("step") != step:
                raise damaged_line(self.steps, step + 1, f"step {values.get('step')!r} in the place of step {step}")
            own: list[Sample] = []
            while line is not None and line.get("step") == step:
                own.append(_sample(line, len(own), self.samples, number))
                line, number = next(samples, None), number + 1
            if not own:
                raise damaged_line(self.samples, number, f"no sample of step {step} in its place")
            records.append(Record(step, values, tuple(own)))
        if num_records is not None and len(records) < num_records:
            raise damaged_line(self.steps, len(records) + 1, f"missing, with step {len(records)} and those after it")
        return records


def _sample(line: Mapping[str, Any], index: int, path: Path, number: int) -> Sample:
    ids, text, role = line.get("token_ids"), line.get("text"), line.get("role")
    is_list = isinstance(ids, list) and all(type(i) is int for i in cast(list[object], ids))
    if not is_list or not isinstance(text, str) or role not in ROLES or line.get("index") != index:
        raise damaged_line(path, number, "no sample as it was written")
    ends: Any = line.get("token_ends")
    if not are_token_ends(ends, text, cast(list[int], ids)):
        raise damaged_line(path, number, "the ends of its tokens are not those of its text")
    return Sample(tuple(cast(list[int], ids)), text, role, None if ends is None else tuple(ends))


def vanished(path: Path) -> Vanished:
    """The error for a run whose directory, or a file in it, is gone."""
    return Vanished(
        f"{path} is gone: it was removed, renamed or replaced during the run",
        "nothing was written in its place; restore it and repeat the run with `resume=True`, or start over",
    )


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turns an error of the disk into a `RunFailed` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT and not path.exists():
            raise vanished(path) from error
        raise RunFailed(
            f"cannot write to {error.filename2 or error.filename or path}: {error.strerror or error}",
            "the records so far are kept; make room and repeat the run with `resume=True`",
        ) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; an unterminated last line is dropped.

    Raises:
        InputError: a terminated line is no JSON object.
    """
    return list(iterate_lines(path))


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file, as `write_json` was given it, in the names of this version.

    Raises:
        InputError: it cannot be read, or is not as it was written; `UnknownSchema`: another version wrote it.
    """
    try:
        content: object = loads(read_regular(path).decode())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read {path}: {reason}", "is this a run directory of collapselab?") from None
    if not isinstance(content, dict):
        raise InputError(f"cannot read {path}: no JSON object", "is this a run directory of collapselab?")
    values = cast(dict[str, Any], content)
    schema = values.get("schema", SCHEMA_VERSION)
    if schema not in READ_VERSIONS:
        known = " and ".join(map(str, READ_VERSIONS))
        raise UnknownSchema(
            f"{path} has schema {schema!r}, and this version of collapselab reads schemas {known}",
            "another version wrote it: use that one",
        )
    noted = values.pop("checksum", None)
    if noted is not None and noted != _checksum(values):
        raise InputError(
            f"{path} is not as it was written: its checksum differs",
            "it was damaged or edited: restore it from a copy",
        )
    return migrated(values)


def write_json(path: Path, value: Mapping[str, object], check: Callable[[], None] = lambda: None) -> None:
    """Replaces a JSON file, with a checksum of its content: readers see the old one or the new one.

    `check` is called right before, and may refuse (`Lease.check`).
    """
    with disk_errors(path.parent):
        replace_file(path, dumps({**value, "checksum": _checksum(value)}, indent=1) + "\n", check=check)


def _checksum(value: Mapping[str, object]) -> str:
    return hashlib.sha256(dumps(value).encode(errors="backslashreplace")).hexdigest()
