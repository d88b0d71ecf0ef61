"""Writes the records of a run: two files of lines, held by one process, which notices if they are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from collapselab.errors import RunFailed
from collapselab.files import sync
from collapselab.records import Record
from collapselab.rundir.layout import RunDir, disk_errors, vanished
from collapselab.rundir.lease import Lease
from collapselab.rundir.line_files import LineFile, check_extent


class RecordWriter:
    """Appends records to steps.jsonl and samples.jsonl, and holds both files for this process."""

    def __init__(self, rundir: RunDir, keep: Sequence[Record] = (), lease: Lease | None = None) -> None:
        """Starts after the records to keep: later lines, and unfinished ones, are cut off.

        Raises:
            InputError: another process writes them.
        """
        self._rundir, self._lease = rundir, lease
        is_renewed = lease is not None and lease.renewed
        num_samples = sum(len(record.samples) for record in keep)
        try:
            with disk_errors(rundir.path):
                self._steps = LineFile(rundir.steps, len(keep), is_renewed=is_renewed)
                self._samples = LineFile(rundir.samples, num_samples, is_renewed=is_renewed)
                sync(rundir.path)
        except RunFailed as error:
            raise (rundir.in_use() if isinstance(error.__cause__, BlockingIOError) else error) from None

    def append(self, record: Record) -> None:
        """Writes one record, its samples first.

        Raises:
            RunFailed: the disk is full or refuses; the records so far stay readable.
        """
        self.check_place()
        with disk_errors(self._rundir.path):
            for index, sample in enumerate(record.samples):
                line: dict[str, object] = {"step": record.step, "index": index, "role": sample.role}
                line |= {"token_ids": sample.token_ids, "text": sample.text}
                line |= {} if sample.token_ends is None else {"token_ends": sample.token_ends}
                self._samples.append(line)
            self._steps.append(dict(record.values))

    def check_place(self) -> None:
        """Checks that this process still has the lease, and that no file was removed, renamed or replaced.

        Raises:
            Superseded: another process has the lease.
            Vanished: a file was.
        """
        if self._lease is not None:
            self._lease.check()
        for file in (self._steps, self._samples):
            if not file.is_in_place():
                raise vanished(self._rundir.path if not self._rundir.path.exists() else file.path)

    def extents(self) -> dict[str, object]:
        """The extents of the files by name, as checkpoints and finished runs record them."""
        return {file.path.name: file.extent() for file in (self._steps, self._samples)}

    def sync(self) -> None:
        """Waits until the records are on the disk."""
        with disk_errors(self._rundir.path):
            self._samples.sync()
            self._steps.sync()

    def close(self) -> None:
        self._steps.close()
        self._samples.close()


def check_extents(rundir: RunDir, noted: Mapping[str, object]) -> None:
    """Compares both files of records with their `extents` at some time.

    Raises:
        InputError: they are not as they were then.
    """
    for path in (rundir.steps, rundir.samples):
        check_extent(path, noted.get(path.name))
