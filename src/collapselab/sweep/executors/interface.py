"""What executes runs: a configuration goes in, a run directory comes out.

`local` uses processes on this machine. An executor for a cluster implements the same two classes. `schedule` decides
which runs are due, skipped or tried again, from the run directories alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from collapselab.config.schema import RunConfig


@dataclass(frozen=True)
class Job:
    """One run to execute, from the start or from its last checkpoint.

    `path` is its run directory, `log` the file for the output of its process, `data_dir` where texts are, `asked_for`
    the content of user.json.
    """

    config: RunConfig
    path: Path
    log: Path
    data_dir: Path | None
    asked_for: Mapping[str, object]


class Attempt(Protocol):
    """A job in progress."""

    def exit_code(self) -> int | None:
        """The exit code, as on the command line: 0 done, 75 interrupted and resumable, else failed; None if running.

        A negative code is the number of the signal that killed it.
        """
        ...

    def is_queued(self) -> bool:
        """Whether the job still waits for a node."""
        ...

    def interrupt(self) -> None:
        """Asks the run to write a checkpoint and end with code 75."""
        ...

    def kill(self) -> None:
        """Ends the run at once; it can be resumed from its last checkpoint."""
        ...


class Executor(Protocol):
    """Executes up to `num_workers` jobs in parallel."""

    @property
    def num_workers(self) -> int: ...

    def start(self, job: Job) -> Attempt:
        """Begins a job and returns at once."""
        ...
