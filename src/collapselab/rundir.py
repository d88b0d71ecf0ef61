"""The run directory: what lies where, who may write, and how a line gets to the disk (docs/run-directory.md)."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from collapselab.errors import InputError, RunFailed
from collapselab.files import replace_file
from collapselab.records import SCHEMA_VERSION, Record, Sample, dumps, loads

Status = Literal["running", "collapsed", "diverged", "budget", "interrupted", "failed"]
FINISHED: tuple[Status, ...] = ("collapsed", "diverged", "budget")


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
        """Whether a run's configuration lies here; a saved model has a config.json too, so the name says nothing."""
        try:
            content: object = json.loads(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and {"run_id", "config"} <= cast(dict[str, object], content).keys()

    @contextmanager
    def lock(self) -> Generator[None]:
        """Holds the directory for this process; the lock ends with the process, however that ends.

        Raises:
            InputError: a live process holds it, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / "lock").open("a")
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be a run directory: {error.strerror}", "choose another directory with --out"
            ) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                owner = read_json(self.status) if self.status.exists() else {}
                who = f"process {owner.get('pid', 'unknown')} on {owner.get('host', 'this machine')}"
                raise InputError(
                    f"{self.path} is in use by {who}", "wait for it to end, or choose another directory with --out"
                ) from None
            yield

    def write_status(self, status: Status, step: int | None, error: str | None = None) -> None:
        """Replaces status.json; the time in it is the run's heartbeat."""
        write_json(
            self.status,
            {
                "schema": SCHEMA_VERSION,
                "status": status,
                "step": step,
                "heartbeat": time.time(),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "error": error,
            },
        )

    def read_records(self) -> list[Record]:
        """All records, in order; steps whose samples did not reach the disk are left out."""
        samples: dict[int, list[Sample]] = {}
        for line in read_lines(self.samples):
            sample = Sample(tuple(line["token_ids"]), line["text"], line["role"])
            samples.setdefault(line["step"], []).append(sample)
        steps = read_lines(self.steps)
        return [Record(v["step"], v, tuple(samples[v["step"]])) for v in steps if v["step"] in samples]


class RecordWriter:
    """Appends records to steps.jsonl and samples.jsonl; a line is one write with its newline."""

    def __init__(self, rundir: RunDir, keep: Sequence[Record] = ()) -> None:
        """Begins anew after the records to keep: lines past them, and half lines, are cut off."""
        self._rundir = rundir
        with disk_errors(rundir.path):
            _cut_back(rundir.steps, len(keep))
            _cut_back(rundir.samples, sum(len(record.samples) for record in keep))
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._steps = os.open(rundir.steps, flags, 0o644)
            self._samples = os.open(rundir.samples, flags, 0o644)

    def append(self, record: Record) -> None:
        """Writes one record, its samples first.

        Raises:
            RunFailed: the disk is full or refuses; the records so far stay readable.
        """
        for index, sample in enumerate(record.samples):
            line = {
                "step": record.step,
                "index": index,
                "role": sample.role,
                "token_ids": sample.token_ids,
                "text": sample.text,
            }
            self._write(self._samples, line)
        self._write(self._steps, dict(record.values))

    def _write(self, handle: int, line: Mapping[str, object]) -> None:
        data = (dumps(line) + "\n").encode()
        with disk_errors(self._rundir.path):
            written = os.write(handle, data)
            if written < len(data):  # the rest is written to learn the cause
                os.write(handle, data[written:])

    def sync(self) -> None:
        """Waits until the records are on the disk."""
        with disk_errors(self._rundir.path):
            os.fsync(self._samples)
            os.fsync(self._steps)

    def close(self) -> None:
        os.close(self._samples)
        os.close(self._steps)


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turns an error of the disk into a `RunFailed` that says what to do."""
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"cannot write to {path}: {error.strerror or error}",
            "the records so far are kept; make room and repeat the command with --resume",
        ) from error


def _cut_back(path: Path, num_lines: int) -> None:
    if not path.exists():
        return
    with path.open("rb+") as handle:
        for _ in range(num_lines):
            handle.readline()
        handle.truncate(handle.tell())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; an unterminated last line is dropped.

    Raises:
        InputError: a terminated line is no JSON object.
    """
    if not path.exists():
        return []
    values: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            values.append(loads(line.decode()))
        except ValueError:
            raise InputError(
                f"{path}, line {number}: not JSON", "the file was damaged; cut it off before that line"
            ) from None
    return values


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}", "is this a run directory of collapselab?") from None


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Replaces a JSON file in one step: readers see the old one or the new one."""
    with disk_errors(path.parent):
        replace_file(path, dumps(value, indent=1) + "\n")
